#!/bin/busybox sh
# shellcheck shell=dash disable=SC2013
# /init of the benchmark's guest. Words of the kernel's command line say what to run:
#   bench=NAME,NAME...   these programs, one after the other; without it, none
#   bench_div=NUMBER     with their work divided by this
export BENCH_MARK=1 PATH=/bin
echo "MARK init-started"
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
busybox mount -t tmpfs tmp /tmp
names='' divisor=1
for word in $(busybox cat /proc/cmdline); do
    case $word in
    bench=*) names=${word#bench=} ;;
    bench_div=*) divisor=${word#bench_div=} ;;
    esac
done
echo "MARK cpus $(busybox grep -c ^processor /proc/cpuinfo) clocksource $(busybox cat /sys/devices/system/clocksource/clocksource0/current_clocksource) kernel $(busybox uname -r)"
for name in $(echo "$names" | busybox tr , ' '); do
    bench -x "$divisor" "$name"
    echo "EXIT $name $?"
done
echo "MARK done"
busybox poweroff -f

#!/usr/bin/env bash
# Makes what bench/compare runs: prepare.sh FOLDER KERNEL BHYVE
# FOLDER gets bench (the static binary), busybox, initramfs.gz, and vmlinuz when KERNEL is empty: that of ./run's guest.
# BHYVE is built when it is this checkout's own and is not there. What is up to date is kept.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
folder=$1 kernel=$2 bhyve=$3
project=$(dirname "$here")
# shellcheck source=scripts/progress.sh
. "$project/scripts/progress.sh"
# shellcheck source=scripts/packages.sh
. "$project/scripts/packages.sh"
guest=$project/guests/debian

build_bhyve() {
    # shellcheck disable=SC2086,SC2154
    ensure_packages $build_packages
    [ -e "$project/build/build.ninja" ] || step "Configuring" cmake -G Ninja -S "$project" -B "$project/build" -DANYHYVE_TESTS=OFF
    step "Building" ninja -C "$project/build" bhyve
}

# Every busybox that make-guest.sh uses is static, and it is in the guest's initial RAM disk.
take_busybox() {
    (cd "$folder" && gzip -dc "$guest/initrd.img" | cpio -i --quiet --to-stdout bin/busybox >busybox.new && chmod +x busybox.new && mv busybox.new busybox)
}

make_initramfs() {
    local root=$folder/root
    rm -rf "$root" && mkdir -p "$root"/{bin,proc,sys,dev,tmp}
    cp "$folder/busybox" "$folder/bench" "$root/bin/"
    cp "$here/programs/init.sh" "$root/init"
    chmod +x "$root/init"
    (cd "$root" && find . | LC_ALL=C sort | cpio -o -H newc --quiet --owner=0:0) | gzip -9 >"$folder/initramfs.new"
    mv "$folder/initramfs.new" "$folder/initramfs.gz"
    rm -rf "$root"
}

mkdir -p "$folder"
folder=$(readlink -f "$folder")
[ -e "$bhyve" ] || [ "$bhyve" != "$project/build/src/tools/bhyve" ] || build_bhyve
# shellcheck disable=SC2086,SC2154
ensure_packages gcc libc6-dev qemu-system-x86 $guest_packages
[ -e "$guest/complete" ] || step "Fetching a Debian guest" "$project/scripts/make-guest.sh" "$guest"
[ -n "$kernel" ] || ln -sf "$guest/vmlinuz" "$folder/vmlinuz"
[ "$folder/busybox" -nt "$guest/complete" ] || step "Taking busybox out of the guest" take_busybox
if [ ! -e "$folder/bench" ] || [ -n "$(find "$here/programs" -newer "$folder/bench")" ]; then
    step "Building the programs" gcc -O2 -static -pthread -Wall -Wextra -o "$folder/bench" "$here"/programs/*.c -lm
fi
if [ ! "$folder/initramfs.gz" -nt "$folder/bench" ] || [ ! "$folder/initramfs.gz" -nt "$folder/busybox" ]; then
    step "Making the initial RAM disk" make_initramfs
fi

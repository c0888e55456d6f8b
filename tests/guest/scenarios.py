"""What the guests of guests.cfg do. A scenario gets a Machine (machine.py) and raises Failure when something is not as it must be."""
import hashlib
import os
import re
import time

from check_shell import PROMPT, Failure

MINUTES = os.environ.get('ANYHYVE_MINUTES')
DISK_MIB = int(os.environ.get('ANYHYVE_DISK_MIB', '64'))
MIB = 1 << 20


def require(condition, text):
    if not condition:
        raise Failure(text)


def wait_for_shell(console):
    """From then on the kernel's own messages stay off the console, where they would mix with the output of commands."""
    console.wait_for(PROMPT)
    console.run('dmesg -n 1')


def begin(machine):
    """Boots to the shell, and looks at what the guest says of itself."""
    console = machine.boot()
    wait_for_shell(console)
    require(console.run('uname -a').startswith('Linux guest '), 'uname does not say "Linux guest"')
    count = len(re.findall(r'^processor\s*:', console.run('cat /proc/cpuinfo'), re.MULTILINE))
    require(count == machine.cpus, f'/proc/cpuinfo lists {count} processors, not {machine.cpus}')
    return console


def shell(machine):
    console = begin(machine)
    if machine.root == 'disk':
        require('/dev/vda on / type ext4' in console.run('mount'), 'the root file system is not the virtio disk')
    before = uptime(console)
    console.run('sleep 1')
    slept = uptime(console) - before
    require(slept >= 1, f'"sleep 1" took {slept:.2f} s of the guest\'s time')
    machine.power_off()


def reboot(machine):
    """Twice, so that the second start is seen to be as good as the first."""
    console = begin(machine)
    for _ in range(2):
        console.run('touch /tmp/before')
        console.send('reboot -f')
        console.wait_for(b'Linux version ')
        wait_for_shell(console)
        require(console.run('ls /tmp') == '', 'memory of before the reboot is still there')
        count = len(re.findall(r'^processor\s*:', console.run('cat /proc/cpuinfo'), re.MULTILINE))
        require(count == machine.cpus, f'after a reboot /proc/cpuinfo lists {count} processors, not {machine.cpus}')
    machine.power_off()


def reboot_once(machine):
    machine.options.append('-N')
    begin(machine).send('reboot -f')
    machine.wait_for_end()


def load_run_inspect(machine):
    machine.load()
    stopped = machine.bhyvectl('--get-all')
    for word in ('rip[0]\t', 'cr0[0]\t', 'lowmem\t'):
        require(word in stopped, f'--get-all of a loaded machine does not show {word.strip()}')
    console = machine.boot_loaded()
    wait_for_shell(console)
    console.run('true')
    require('rip[0]\t' in machine.bhyvectl('--get-all'), '--get-all of a running machine does not show its registers')
    require(re.search(r'Resident memory\s+[1-9]', machine.bhyvectl('--get-stats')), '--get-stats shows no resident memory')
    require(f'{console.process.pid}' in machine.bhyvectl('--get-vm-pid'), '--get-vm-pid does not show the process')
    console.run('true')
    machine.power_off()
    require('rip[0]\t' in machine.bhyvectl('--get-all'), '--get-all of an ended machine does not show its registers')
    machine.bhyvectl('--set-rip=0x123456')
    require(machine.bhyvectl('--get-rip') == 'rip[0]\t0x0000000000123456\n', '--get-rip does not show what --set-rip has set')
    machine.bhyvectl('--destroy')
    require(machine.machines() == [], 'the machine is still there after --destroy')


def uptime(console):
    return float(console.run('cut -d" " -f1 /proc/uptime'))


def pause(machine):
    """Time stands while the machine does; and one virtual CPU may stand while the other goes on."""
    console = begin(machine)
    for _ in range(3):
        before = uptime(console)
        machine.bhyvectl('--pause')
        time.sleep(5)
        machine.bhyvectl('--resume')
        passed = uptime(console) - before
        require(passed < 4, f'{passed:.2f} s of the guest\'s time passed while it was paused for 5 s')
    for cpu in range(machine.cpus):
        machine.bhyvectl(f'--cpu={cpu}', '--hold')
        time.sleep(0.5)
        require(machine.bhyvectl('--get-debug-cpus') == f'debug cpus\t{cpu}\n', f'virtual CPU {cpu} is not held')
        machine.bhyvectl(f'--cpu={cpu}', '--release')
        console.run('sleep 0.1')
    require(clock_source(console) == 'tsc', 'the clock source is not the TSC any more')
    machine.power_off()


def checksum(path, size):
    digest = hashlib.md5()
    with open(path, 'rb') as file:
        while size:
            data = file.read(min(size, 4 * MIB))
            if not data:
                return f'short of {size} bytes'
            digest.update(data)
            size -= len(data)
    return digest.hexdigest()


def disk_copy(machine):
    """From a disk of random bytes to an empty one, read back from there, and compared on the host while the guest still runs."""
    size = DISK_MIB * MIB
    target = machine.disk('target', size)
    source = machine.disk('source', size, os.urandom)
    wanted = checksum(source, size)
    console = begin(machine)
    console.run('dd if=/dev/vdb of=/dev/vda bs=1M 2>/dev/null')
    console.run('sync')
    require(checksum(target, size) == wanted, 'after a sync the host\'s file is not what the guest has written')
    console.run('echo 3 >/proc/sys/vm/drop_caches')
    require(console.run('md5sum </dev/vda').split()[0] == wanted, 'the guest reads something else than it has written')
    machine.power_off()
    require(checksum(target, size) == wanted, 'after the end the file is not what the guest has written')


def disk_kill(machine):
    console = begin(machine)
    console.run('dd if=/dev/urandom of=/root/data bs=1M count=16 2>/dev/null')
    before = console.run('md5sum </root/data')
    console.run('sync')
    console.process.kill()
    machine.wait_for_end()
    console = machine.boot()
    wait_for_shell(console)
    require(console.run('md5sum </root/data') == before, 'the file that was synced before the kill has changed')
    machine.expected_status = 1
    machine.power_off()


def long_run(machine, console):
    """How many seconds the work of a long run is to take; its machine may take twice as long."""
    seconds = round(60 * float(MINUTES or machine.row['minutes']))
    console.deadline += 2 * seconds
    return seconds


def warnings_of_kernel(console):
    return console.run('dmesg -l emerg,alert,crit,err,warn').splitlines()


def clock_source(console):
    return console.run('cat /sys/devices/system/clocksource/*/current_clocksource').split()[-1]


def stress(machine):
    """stress-ng checks what it computes, and the kernel has nothing new to complain of."""
    console = machine.boot()
    seconds = long_run(machine, console)
    wait_for_shell(console)
    before = warnings_of_kernel(console)
    each = ' '.join(f'--{stressor} 2' for stressor in ('vm', 'fork', 'signal', 'clock', 'sock', 'futex'))
    said = console.run(f'stress-ng --cpu {machine.cpus} {each} --vm-bytes 64M --verify --metrics-brief --timeout {seconds}')
    print('\n'.join(line for line in said.splitlines() if 'metrc' in line or 'completed' in line))
    require('successful run completed' in said and 'fail' not in said, f'stress-ng found something wrong: {said}')
    # How long a timer interrupt took is a matter of what else the host had to do.
    new = [line for line in warnings_of_kernel(console) if line not in before and 'hrtimer: interrupt took' not in line]
    require(not new, f'the kernel complains: {new}')
    require(clock_source(console) == 'tsc', 'the clock source is not the TSC any more')
    machine.power_off()


def memtest(machine):
    """One pass of all the tests that are on by default."""
    console = machine.boot()
    long_run(machine, console)
    console.wait_for(b'Memtest86+ v')
    console.wait_for(b'Pass:  1 ')
    console.wait_for(b'Errors: ')
    errors = console.wait_for(b' ')
    require(errors == '0', f'memtest86+ found {errors} errors')
    print('one pass of memtest86+ in', re.findall(r'Time: +([0-9:]+)', machine.output())[-1])


def clocks(machine):
    """All clocks go at the same rate under load, 0.1 % apart at most."""
    console = machine.boot()
    seconds = long_run(machine, console)
    wait_for_shell(console)
    said = console.run(f'clocks {seconds} {machine.cpus}')
    print(said)
    drifts = dict(re.findall(r'^clock (\S+) (\S+) ppm$', said, re.MULTILINE))
    require(len(drifts) == 5, f'not all clocks could be read: {said}')
    for clock, drift in drifts.items():
        require(abs(float(drift)) < 1000, f'the {clock} is {drift} ppm away from the TSC')
    require(clock_source(console) == 'tsc', 'the clock source is not the TSC any more')
    machine.power_off()

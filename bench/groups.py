"""Which programs each group has, and on how many virtual CPUs it runs."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    name: str
    programs: tuple
    cpus: int = 1


# The one entry of the group "boot": from the start of the process to the first line of /init.
BOOT = 'boot'

GROUPS = {group.name: group for group in (
    Group(BOOT, ()),
    Group('compute', ('alu', 'crc32', 'sha256', 'interp', 'icall', 'icall_mono', 'fib', 'qsort', 'strhash', 'chase', 'chase_l1', 'x87')),
    Group('vector', ('matmul', 'nbody', 'avx2', 'fma', 'memcpy', 'memcpy4k')),
    Group('kernel', ('getppid', 'fork', 'forkexec', 'pipe', 'mmap', 'sigsegv', 'tmpfs', 'smallfiles', 'futexpp')),
    Group('changing', ('smc', 'jitgen')),
    Group('whole', ('gzip',)),
    Group('smp', ('par2', 'atomic2', 'futexpp', 'pipe'), cpus=2),
)}

# These keep two threads busy at once; all other programs have one task that runs at any time.
PARALLEL = {'par2', 'atomic2'}


def counts_wall_time(program, cpus):
    """Two CPUs whose tasks wake each other by turns: waiting is what such a program is made of, none of it can be taken off."""
    return cpus > 1 and program not in PARALLEL

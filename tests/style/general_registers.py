#!/usr/bin/env python3
"""general_registers.py [--address-sanitizer] BINARY OBJECT...: the objects are compiled for general registers only, since the guest's vector
registers are live while they run. Functions that stand in several objects (inline ones, templates) are linked once, from whichever object comes
first: none of those that these objects use may come from one that was compiled for all registers, and use them. Nor may they call the C library's
functions for memory, which use vector registers as well."""
import re
import subprocess
import sys

MEMORY = re.compile(r'mem(cpy|move|set|cmp|chr)|operator new|operator delete|malloc|free|__asan_(un)?poison_stack_memory')
# These allocate and copy while they are set up, or with the guest's vector state put away.
SET_UP = {'code_cache.cpp.o', 'cpu.cpp.o', 'cpuid.cpp.o', 'crowd.cpp.o', 'page_runs.cpp.o'}
# AddressSanitizer's build calls them where others have instructions: here, all with an AddressSanitizerGuard or as the above.
WITH_ADDRESS_SANITIZER = re.compile(r'(translate|hot)_.*|(decoder|stack_runs|device_access|host_vector_unit|task_switch)\.cpp\.o')
VECTOR = re.compile(r'%[xyz]mm\d|%mm[0-7]|%k[0-7]\b|%st\b')


def lines_of(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()


def shared_functions(objects):
    """Weak definitions: the linker may take another object's."""
    return {line.split()[-1] for line in lines_of('nm', *objects) if re.search(r' [wW] ', line)}


def calls_for_memory(path):
    """Of the C library, by an object."""
    return [line.split(maxsplit=1)[1] for line in lines_of('nm', '-uC', path) if MEMORY.fullmatch(line.split(maxsplit=1)[1].split('(')[0])]


def users_of_vector_registers(binary):
    users, functions, function = set(), set(), None
    for line in lines_of('objdump', '-d', '--no-show-raw-insn', binary):
        heading = re.match(r'^[0-9a-f]+ <(.+)>:$', line)
        if heading:
            function = heading.group(1)
            functions.add(function)
        elif VECTOR.search(line):
            users.add(function)
    return users, functions


def main():
    sanitizer = sys.argv[1] == '--address-sanitizer'
    binary, *objects = sys.argv[2:] if sanitizer else sys.argv[1:]
    shared = shared_functions(objects)
    users, functions = users_of_vector_registers(binary)
    wrong = [f'{name} uses vector registers' for name in sorted(shared & users)]
    calls = {path.rsplit('/', 1)[-1]: calls_for_memory(path) for path in objects}
    wrong += [f'{name} calls {", ".join(called)}' for name, called in calls.items()
              if called and name not in SET_UP and not (sanitizer and WITH_ADDRESS_SANITIZER.fullmatch(name))]
    wrong += [f'{name} calls nothing for memory any more: take it from the list' for name in SET_UP if not calls.get(name)]
    if not shared & functions or not users:
        wrong.append(f'{binary}: nothing to look at: {len(shared & functions)} shared functions, {len(users)} that use vector registers')
    print('\n'.join(wrong) if wrong else f'ok: {len(shared & functions)} shared functions of {len(objects)} objects')
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())

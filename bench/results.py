"""Collects the timings of all runs; makes the ratios, the table and the JSON of them."""
import math
from collections import defaultdict

MACHINES = ('anyhyve', 'qemu', 'native')


def geometric_mean(values):
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


class Results:
    def __init__(self):
        self.timings = defaultdict(list)  # (group, program, machine) -> [Timing]
        self.failures = []  # {group, program, machine, what}

    def add(self, group, machine, programs, outcome):
        for program in programs:
            if program in outcome.timings:
                self.timings[group, program, machine].append(outcome.timings[program])
        for program, what in outcome.failures.items():
            self.fail(group, program, machine, what)

    def fail(self, group, program, machine, what):
        failure = {'group': group, 'program': program, 'machine': machine, 'what': what}
        if failure not in self.failures:
            self.failures.append(failure)

    def check_checksums(self):
        """Every run of a program, wherever, must have worked out the same."""
        for group, program in dict.fromkeys(key[:2] for key in self.timings):
            found = {machine: {timing.checksum for timing in self.timings.get((group, program, machine), ())} for machine in MACHINES}
            if len(set().union(*found.values())) > 1:
                text = ', '.join(f'{machine} {"/".join(sorted(sums))}' for machine, sums in found.items() if sums)
                wrong = [machine for machine in MACHINES if found[machine] and found[machine] != found['native']]
                self.fail(group, program, '+'.join(wrong) or 'native', f'checksums differ: {text}')

    def program(self, group, name):
        """The best of each machine, and how far the runs are apart (slowest over fastest)."""
        entry, best = {}, {}
        for machine in MACHINES:
            times = self.timings.get((group, name, machine))
            best[machine] = min(timing.seconds for timing in times) if times else None
            entry[f'{machine}_s'] = best[machine]
            entry[f'{machine}_wall_s'] = min(timing.wall for timing in times) if times else None
        entry['vs_qemu'] = best['qemu'] / best['anyhyve'] if best['qemu'] and best['anyhyve'] else None
        entry['vs_native'] = best['anyhyve'] / best['native'] if best['native'] and best['anyhyve'] else None
        for key, machine in (('spread', 'anyhyve'), ('qemu_spread', 'qemu')):
            seconds = [timing.seconds for timing in self.timings.get((group, name, machine), ())]
            entry[key] = max(seconds) / min(seconds) if seconds and min(seconds) > 0 else None
        return entry

    def group(self, name, programs):
        entries = {program: self.program(name, program) for program in programs}
        summary = {key: geometric_mean(entry[key] for entry in entries.values() if entry[key]) for key in ('vs_qemu', 'vs_native', 'spread')}
        return {**summary, 'programs': entries}


def number(value, digits):
    return '-' if value is None else f'{value:.{digits}f}'


def row(name, entry, indent=''):
    times = ''.join(f'{number(entry.get(f"{machine}_s"), 3):>12}' for machine in MACHINES)
    return f'{indent + name:<14}{times}{number(entry["vs_qemu"], 2):>10}{number(entry["vs_native"], 2):>11}{number(entry["spread"], 2):>9}'


def table(groups):
    lines = [f'{"":<14}{"anyhyve s":>12}{"QEMU s":>12}{"native s":>12}{"vs QEMU":>10}{"vs native":>11}{"spread":>9}']
    for name, group in groups.items():
        sums = {}
        for machine in MACHINES:
            seconds = [entry[f'{machine}_s'] for entry in group['programs'].values() if entry[f'{machine}_s'] is not None]
            sums[f'{machine}_s'] = sum(seconds) if seconds else None
        lines.append(row(name, {**group, **sums}))
        lines.extend(row(program, entry, '  ') for program, entry in group['programs'].items() if len(group['programs']) > 1)
    lines.append('Seconds: best run, of a group the sum. vs QEMU: its time over ours; vs native: ours over native; geometric means. spread: slowest run over fastest.')
    return '\n'.join(lines)

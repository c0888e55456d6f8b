#!/usr/bin/env python3
"""The first line of every source file is a comment with its purpose; headers have #pragma once; every reinterpret_cast has its reason. Unit
tests have names without underscores, as GoogleTest asks for."""
import re

from sources import end, files, read, without_comments_and_strings

# SAFETY: stands at most so many lines above; casts of one kind close together share one.
REASON_WITHIN = 14
UNFINISHED = re.compile(r'\b(TODO|XXX|FIXME|HACK)\b')


def first_line_finding(path, lines):
    first = lines[0] if lines else ''
    if path.endswith('CMakeLists.txt'):
        return None
    comment = re.match(r'//\s*\S+', first)
    if not comment or len(first) < 12:
        return f'{path}:1: the first line is not a comment with the purpose of the file'
    return None


def cast_findings(path, lines, code):
    for number, line in enumerate(code, 1):
        if 'reinterpret_cast' not in line:
            continue
        if not any('SAFETY:' in above for above in lines[max(0, number - 1 - REASON_WITHIN):number]):
            yield f'{path}:{number}: reinterpret_cast without SAFETY: above'


def name_findings(path, text):
    for test in re.finditer(r'^ *(?:TYPED_)?TEST(?:_[FP])?\((\w+), (\w+)\)', text, re.MULTILINE):
        if '_' in test.group(1) + test.group(2):
            yield f'{path}: {test.group(1)}.{test.group(2)}: an underscore in a test\'s name'


def findings():
    for path in files('src', '.hpp', '.cpp'):
        text = read(path)
        lines = text.splitlines()
        code = without_comments_and_strings(text).splitlines()
        finding = first_line_finding(path, lines)
        if finding:
            yield finding
        if path.endswith('.hpp') and '#pragma once' not in lines:
            yield f'{path}: there is no #pragma once'
        yield from cast_findings(path, lines, code)
        for number, line in enumerate(lines, 1):
            if UNFINISHED.search(line):
                yield f'{path}:{number}: unfinished: {line.strip()}'
    for path in files('tests/unit', '.cpp'):
        yield from name_findings(path, read(path))


end(list(findings()))

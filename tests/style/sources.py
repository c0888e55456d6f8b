"""The project's source files, as the checks of this folder see them. A check prints what it finds, a line each, and exits with 1."""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


def read(path):
    with open(os.path.join(ROOT, path), encoding='utf-8') as file:
        return file.read()


def files(folder, *endings):
    """Paths below a folder of the project, written from its root."""
    found = []
    for where, _, names in os.walk(os.path.join(ROOT, folder)):
        found += [os.path.relpath(os.path.join(where, name), ROOT) for name in names if name.endswith(endings)]
    return sorted(found)


def without_comments_and_strings(text):
    """Same lines, same columns; what is in comments and literals is blank."""
    literal = re.compile(r'R"(\w*)\(.*?\)\1"|//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.DOTALL)

    def blank(match):
        # A digit separator is not a literal.
        if match.group().startswith("'") and match.start() and text[match.start() - 1].isalnum():
            return match.group()
        return re.sub(r'[^\n]', ' ', match.group())

    return literal.sub(blank, text)


def end(findings):
    for finding in findings:
        print(finding)
    sys.exit(1 if findings else 0)

"""Runs the tools for tests: each test has a directory of virtual machines of its own, and tiny kernels made here."""
import os
import shutil
import struct
import subprocess
import tempfile
import unittest

TOOLS = os.environ["ANYHYVE_TOOLS"]  # folder of the built programs
LIMIT = float(os.environ.get("ANYHYVE_TEST_LIMIT", "120"))  # seconds for one program


def out_byte(port, value):
    """mov dx, port; mov al, value; out dx, al (32-bit code)."""
    return b"\x66\xba" + struct.pack("<H", port) + b"\xb0" + bytes([value]) + b"\xee"


def out_word(port, value):
    return b"\x66\xba" + struct.pack("<H", port) + b"\x66\xb8" + struct.pack("<H", value) + b"\x66\xef"


def say(text):
    return b"".join(out_byte(0x3F8, byte) for byte in text.encode())


HALT_FOREVER = b"\xfa\xf4\xeb\xfc"  # cli; hlt; jmp back
SPIN = b"\xeb\xfe"
POWER_OFF = out_byte(0xB2, 0xA0) + out_word(0x404, 5 << 10 | 1 << 13) + SPIN
RESET = out_byte(0xCF9, 6) + SPIN
# lidt of an empty table, then a breakpoint nobody can take
TRIPLE_FAULT = b"\x0f\x01\x1d\x00\x00\x30\x00" + b"\xcc" + SPIN
ENABLE_ACPI_AND_SPIN = out_byte(0xB2, 0xA0)


def elf_kernel(code, entry=0x200000):
    """An ELF file with a PVH entry (Xen's ELF note 18) that runs `code` in 32-bit protected mode."""
    note = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", entry)
    header_size, segment_size = 64, 56
    code_at = 0x1000
    note_at = header_size + 2 * segment_size
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, entry, header_size, 0, 0, header_size, segment_size, 2, 64, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 7, code_at, entry, entry, len(code), len(code), 0x1000)
    notes = struct.pack("<IIQQQQQQ", 4, 4, note_at, 0, 0, len(note), len(note), 4)
    head = header + load + notes + note
    return head + bytes(code_at - len(head)) + code


class ToolTest(unittest.TestCase):
    def setUp(self):
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = tempfile.mkdtemp(prefix="anyhyve-test.", dir=base)
        self.vmm = os.path.join(self.folder, "vmm")
        os.mkdir(self.vmm, 0o700)
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.children = []
        self.addCleanup(self.end_children)

    def end_children(self):
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.communicate()

    def environment(self, **more):
        return {**os.environ, "VMM_DIR": self.vmm, **more}

    def file(self, name, content=b""):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as out:
            out.write(content)
        return path

    def kernel(self, code, name="kernel"):
        return self.file(name, elf_kernel(code))

    def run_tool(self, tool, *arguments, **environment):
        return subprocess.run([os.path.join(TOOLS, tool), *arguments], env=self.environment(**environment), stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=LIMIT, check=False)

    def start_tool(self, tool, *arguments):
        child = subprocess.Popen([os.path.join(TOOLS, tool), *arguments], env=self.environment(), stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.children.append(child)
        return child

    def bhyve(self, *arguments):
        return self.run_tool("bhyve", *arguments)

    def bhyveload(self, *arguments):
        return self.run_tool("bhyveload", *arguments)

    def bhyvectl(self, *arguments):
        return self.run_tool("bhyvectl", *arguments)

    def machines(self):
        """Names of the machines that exist; half-made ones count."""
        return sorted(name for name in os.listdir(self.vmm) if name != "directory lock")

    def assert_refused(self, result, code, *words):
        """One line on stderr with all the words, this exit code, and nothing on stdout."""
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(result.stdout, "")
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)

    def assert_done(self, result):
        self.assertEqual((result.returncode, result.stderr), (0, ""))

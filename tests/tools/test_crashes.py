"""Tools that are killed at any moment leave nothing that stops the next ones."""
import os
import random
import signal
import subprocess
import time
import unittest

from tool import POWER_OFF, SPIN, ToolTest, say

ROUNDS = int(os.environ.get("ANYHYVE_CRASH_ROUNDS", "15"))


class Killed(ToolTest):
    def kill_somewhere(self, tool, *arguments):
        child = self.start_tool(tool, *arguments)
        time.sleep(random.uniform(0, 0.04))
        child.send_signal(signal.SIGKILL)
        child.wait()

    def assert_everything_works(self, kernel):
        loaded = self.bhyveload("-m", "64M", "-k", kernel, "guest")
        self.assertEqual(loaded.returncode, 0, loaded.stderr)
        ran = self.bhyve("-m", "64M", "-s", "31,lpc", "-l", "com1,stdio", "guest")
        self.assertEqual((ran.returncode, ran.stdout), (1, "x"), ran.stderr)
        self.assert_done(self.bhyvectl("--vm=guest", "--destroy"))
        self.assertEqual(self.machines(), [])

    def test_bhyveload(self):
        kernel = self.kernel(say("x") + POWER_OFF)
        for _ in range(ROUNDS):
            self.kill_somewhere("bhyveload", "-m", "64M", "-k", kernel, "guest")
            self.assert_everything_works(kernel)

    def test_bhyve(self):
        kernel = self.kernel(say("x") + POWER_OFF)
        endless = self.kernel(SPIN, "endless")
        for _ in range(ROUNDS):
            self.kill_somewhere("bhyve", "-m", "64M", "-b", "linux,kernel=" + endless, "guest")
            self.assert_everything_works(kernel)

    def test_destroy(self):
        kernel = self.kernel(say("x") + POWER_OFF)
        for _ in range(ROUNDS):
            self.assert_done(self.bhyveload("-m", "64M", "-k", kernel, "guest"))
            self.kill_somewhere("bhyvectl", "--vm=guest", "--destroy")
            self.assert_everything_works(kernel)


class OutOfMemory(ToolTest):
    def test_a_host_without_memory_ends_the_machine_with_a_line(self):
        mount = self.folder + "/small"
        os.mkdir(mount)
        if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m,mode=700", "none", mount], check=False, capture_output=True).returncode:
            self.skipTest("needs to mount a tmpfs")
        self.addCleanup(subprocess.run, ["umount", "-l", mount], check=False)
        self.vmm = mount
        # Writes a word into each page from 4 MiB to 60 MiB: mov edi, 0x400000; mov [edi], edi; add edi, 4096; cmp edi, 60 MiB; jb
        touch = b"\xbf\x00\x00\x40\x00" + b"\x89\x3f" + b"\x81\xc7\x00\x10\x00\x00" + b"\x81\xff\x00\x00\xc0\x03" + b"\x72\xf0"
        # ... but only once a key has come: mov dx, 0x3fd; in al, dx; test al, 1; jz
        wait = b"\x66\xba\xfd\x03\xec\xa8\x01\x74\xfb"
        child = subprocess.Popen([os.path.join(os.environ["ANYHYVE_TOOLS"], "bhyve"), "-m", "64M", "-s", "31,lpc", "-l", "com1,stdio", "-b",
                                  "linux,kernel=" + self.kernel(say("R") + wait + touch + POWER_OFF), "guest"], env=self.environment(),
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.children.append(child)
        self.assertEqual(child.stdout.read(1), "R")
        filler = os.open(mount + "/filler", os.O_RDWR | os.O_CREAT)
        try:
            while True:
                os.write(filler, bytes(65536))
        except OSError:
            pass
        child.stdin.write("k")
        child.stdin.flush()
        self.assertEqual(child.wait(60), 4)
        self.assertIn("the host has no more memory", child.stderr.read())
        os.close(filler)
        os.unlink(mount + "/filler")
        self.assertEqual(self.bhyve("-m", "64M", "-b", "linux,kernel=" + self.kernel(POWER_OFF, "next"), "guest").returncode, 1)
        self.assertEqual(self.machines(), [])


if __name__ == "__main__":
    unittest.main()

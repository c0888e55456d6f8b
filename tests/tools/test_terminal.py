"""bhyve on a terminal: its hint, its way out, and the terminal as it was whatever ends the machine."""
import os
import pty
import select
import signal
import subprocess
import termios
import time
import unittest

from tool import LIMIT, POWER_OFF, SPIN, TOOLS, ToolTest, say


class Terminal(ToolTest):
    def start(self, code):
        self.master, self.slave = pty.openpty()
        self.addCleanup(os.close, self.master)
        self.addCleanup(os.close, self.slave)
        self.before = termios.tcgetattr(self.slave)

        def take_terminal():
            import fcntl
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.child = subprocess.Popen([os.path.join(TOOLS, "bhyve"), "-m", "64M", "-s", "31,lpc", "-l", "com1,stdio", "-b",
                                       "linux,kernel=" + self.kernel(code), "guest"], env=self.environment(),
                                      stdin=self.slave, stdout=self.slave, stderr=self.slave, preexec_fn=take_terminal)
        self.children.append(self.child)
        self.output = b""

    def wait_for(self, text):
        deadline = time.monotonic() + LIMIT
        while text not in self.output:
            self.assertLess(time.monotonic(), deadline, self.output)
            if select.select([self.master], [], [], 1)[0]:
                self.output += os.read(self.master, 4096)

    def assert_ended(self, code):
        deadline = time.monotonic() + LIMIT
        while self.child.poll() is None and time.monotonic() < deadline:
            if select.select([self.master], [], [], 0.1)[0]:
                self.output += os.read(self.master, 4096)
        self.assertEqual(self.child.returncode, code, self.output)
        self.assertEqual(termios.tcgetattr(self.slave), self.before)
        self.assertEqual(self.machines(), [])

    def test_the_hint_and_control_a_x(self):
        self.start(say("R") + SPIN)
        self.wait_for(b"Ctrl-A x")
        self.wait_for(b"R")
        self.assertNotEqual(termios.tcgetattr(self.slave), self.before)
        os.write(self.master, b"\x01x")
        self.assert_ended(1)

    def test_control_c_belongs_to_the_guest(self):
        self.start(say("R") + SPIN)
        self.wait_for(b"R")
        os.write(self.master, b"\x03")
        time.sleep(0.3)
        self.assertIsNone(self.child.poll())
        self.child.send_signal(signal.SIGTERM)
        self.assert_ended(1)

    def test_restored_after_power_off(self):
        self.start(say("R") + POWER_OFF)
        self.assert_ended(1)

    def test_restored_after_each_signal(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            self.start(say("R") + SPIN)
            self.wait_for(b"R")
            self.child.send_signal(number)
            self.assert_ended(1)


if __name__ == "__main__":
    unittest.main()

"""A machine from its creation to its end: bhyveload, bhyve, bhyvectl, and what happens when one of them is killed."""
import json
import os
import signal
import time
import unittest

from tool import ENABLE_ACPI_AND_SPIN, HALT_FOREVER, POWER_OFF, RESET, SPIN, TRIPLE_FAULT, ToolTest, out_byte, say

BOARD = ("-m", "64M", "-s", "0,hostbridge", "-s", "31,lpc", "-l", "com1,stdio")


class Loading(ToolTest):
    def test_load_run_inspect_destroy(self):
        self.assert_done(self.bhyveload("-m", "64M", "-k", self.kernel(say("hello") + POWER_OFF), "guest"))
        rip = self.bhyvectl("--vm=guest", "--get-rip")
        self.assertEqual((rip.returncode, rip.stdout), (0, "rip[0]\t0x0000000000200000\n"))
        result = self.bhyve(*BOARD, "guest")
        self.assertEqual((result.returncode, result.stdout), (1, "hello"), result.stderr)
        self.assertEqual(self.machines(), ["guest"])
        after = self.bhyvectl("--vm=guest", "--get-rip")
        self.assertNotEqual(after.stdout, rip.stdout)
        self.assert_done(self.bhyvectl("--vm=guest", "--destroy"))
        self.assertEqual(self.machines(), [])

    def test_a_machine_that_ended_starts_again_by_its_own_loader(self):
        self.assert_done(self.bhyveload("-m", "64M", "-k", self.kernel(say("x") + POWER_OFF), "guest"))
        for _ in range(2):
            self.assertEqual(self.bhyve(*BOARD, "guest").stdout, "x")

    def test_loading_again_takes_it_back_to_the_start(self):
        self.assert_done(self.bhyveload("-m", "64M", "-k", self.kernel(POWER_OFF), "guest"))
        self.assert_done(self.bhyvectl("--vm=guest", "--set-rip=0x1234"))
        self.assert_done(self.bhyveload("-m", "32M", "-k", self.kernel(POWER_OFF), "guest"))
        self.assertIn("0x0000000000200000", self.bhyvectl("--vm=guest", "--get-rip").stdout)
        self.assertIn("0x0000000002000000", self.bhyvectl("--vm=guest", "--get-lowmem").stdout)

    def test_memory_must_be_the_loaders(self):
        self.assert_done(self.bhyveload("-m", "64M", "-k", self.kernel(POWER_OFF), "guest"))
        self.assert_refused(self.bhyve("-m", "128M", "guest"), 4, "guest", "64M", "128M")
        self.assertEqual(self.bhyve("guest").returncode, 1)

    def test_nothing_loaded(self):
        self.assert_done(self.bhyvectl("--vm=guest", "--create"))
        self.assert_refused(self.bhyve("guest"), 4, "nothing has been loaded into guest")

    def test_destroyed_on_power_off(self):
        self.assert_done(self.bhyveload("-m", "64M", "-k", self.kernel(POWER_OFF), "guest"))
        self.assertEqual(self.bhyve("-D", *BOARD, "guest").returncode, 1)
        self.assertEqual(self.machines(), [])


class Ends(ToolTest):
    def run_code(self, code, *flags):
        return self.bhyve(*BOARD, *flags, "-b", "linux,kernel=" + self.kernel(code), "guest")

    def test_exit_codes(self):
        self.assertEqual(self.run_code(say("a") + RESET, "-N").returncode, 0)
        self.assertEqual(self.run_code(POWER_OFF).returncode, 1)
        self.assertEqual(self.run_code(HALT_FOREVER).returncode, 2)
        self.assertEqual(self.run_code(TRIPLE_FAULT).returncode, 3)
        self.assertEqual(self.machines(), [])

    def test_halt_of_one_of_two_processors_that_are_up_ends_it_too(self):
        self.assertEqual(self.run_code(HALT_FOREVER, "-c", "2").returncode, 2)

    def test_strict_io_ends_with_an_error(self):
        result = self.run_code(out_byte(0x1234, 1) + SPIN, "-e")
        self.assertEqual(result.returncode, 4)
        self.assertIn("0x1234", result.stderr)

    def test_reboot_restarts_in_place(self):
        # The first power-on finds 0 in the clock's memory at 0x40, leaves 1 there and resets; the second powers off.
        read_marker = out_byte(0x70, 0x40) + b"\x66\xba\x71\x00\xec"  # mov dx, 0x71; in al, dx
        second = say("2") + POWER_OFF
        first = say("1") + out_byte(0x70, 0x40) + out_byte(0x71, 1) + RESET
        code = read_marker + b"\x84\xc0" + b"\x0f\x84" + len(second).to_bytes(4, "little") + second + first
        result = self.run_code(code)
        self.assertEqual((result.returncode, result.stdout), (1, "12"), result.stderr)


class Signals(ToolTest):
    def start(self, code):
        child = self.start_tool("bhyve", *BOARD, "-b", "linux,kernel=" + self.kernel(code + say("r")), "guest")
        self.assertEqual(child.stdout.read(1), "r")
        return child

    def test_sigterm_ends_a_guest_without_acpi(self):
        child = self.start(b"")
        child.send_signal(signal.SIGTERM)
        self.assertEqual(child.wait(60), 1)
        self.assertEqual(self.machines(), [])

    def test_second_sigterm_ends_a_guest_with_acpi(self):
        # ACPI on, power button enabled: the first press reaches the guest, which does not care.
        enable_button = b"\x66\xba\x02\x04\x66\xb8\x00\x01\x66\xef"
        child = self.start_tool("bhyve", *BOARD, "-b", "linux,kernel=" + self.kernel(ENABLE_ACPI_AND_SPIN + enable_button + out_word_control() + say("r") + SPIN), "guest")
        self.assertEqual(child.stdout.read(1), "r")
        child.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        self.assertIsNone(child.poll())
        child.send_signal(signal.SIGTERM)
        self.assertEqual(child.wait(60), 1)

    def test_sighup_ends_it(self):
        child = self.start(b"")
        child.send_signal(signal.SIGHUP)
        self.assertEqual(child.wait(60), 1)
        self.assertEqual(self.machines(), [])


def out_word_control():
    """mov dx, 0x404; mov ax, 1; out dx, ax: SCI enable."""
    return b"\x66\xba\x04\x04\x66\xb8\x01\x00\x66\xef"


class Running(ToolTest):
    def setUp(self):
        super().setUp()
        self.assert_done(self.bhyveload("-m", "64M", "-k", self.kernel(say("r") + SPIN), "guest"))
        self.child = self.start_tool("bhyve", *BOARD, "guest")
        self.assertEqual(self.child.stdout.read(1), "r")

    def test_busy(self):
        for result in (self.bhyve(*BOARD, "guest"), self.bhyve(*BOARD, "-b", "linux,kernel=" + self.folder + "/kernel", "guest")):
            self.assert_refused(result, 4, "guest", "in use", str(self.child.pid))
        self.assert_refused(self.bhyveload("-k", self.folder + "/kernel", "guest"), 1, "guest", "in use")

    def test_registers_of_a_running_machine(self):
        rip = self.bhyvectl("--vm=guest", "--get-rip", "--get-rax").stdout.splitlines()
        self.assertRegex(rip[0], r"^rip\[0\]\t0x00000000002000[0-9a-f]{2}$")
        self.assert_done(self.bhyvectl("--vm=guest", "--set-rbx=0x1234"))
        self.assertEqual(self.bhyvectl("--vm=guest", "--get-rbx").stdout, "rbx[0]\t0x0000000000001234\n")

    def test_get_all_and_json(self):
        everything = self.bhyvectl("--vm=guest", "--get-all")
        self.assertEqual(everything.returncode, 0, everything.stderr)
        for word in ("rip[0]\t", "cs desc[0]\t", "lowmem\t0x0000000004000000", "active cpus\t0"):
            self.assertIn(word, everything.stdout)
        report = json.loads(self.bhyvectl("--vm=guest", "--json", "--get-all").stdout)
        self.assertEqual(report["vm"], "guest")
        self.assertIn("rip", [item["name"] for item in report["items"]])

    def test_statistics_have_what_vm_bhyve_wants(self):
        lines = self.bhyvectl("--vm=guest", "--get-stats").stdout.splitlines()
        resident = [line for line in lines if "Resident memory" in line]
        self.assertGreater(int(resident[0].split()[2]), 0)
        self.assertTrue(any("instructions translated" in line for line in lines))

    def test_pid(self):
        self.assertEqual(self.bhyvectl("--vm=guest", "--get-vm-pid").stdout, f"pid\t{self.child.pid}\n")

    def test_force_power_off(self):
        self.assert_done(self.bhyvectl("--vm=guest", "--force-poweroff"))
        self.assertEqual(self.child.wait(60), 1)

    def test_force_reset_starts_again(self):
        self.assert_done(self.bhyvectl("--vm=guest", "--force-reset"))
        self.assertEqual(self.child.stdout.read(1), "r")

    def test_one_virtual_cpu_is_held_and_stepped(self):
        self.assert_refused(self.bhyvectl("--vm=guest", "--step"), 1, "not held")
        self.assert_done(self.bhyvectl("--vm=guest", "--hold"))
        self.assertEqual(self.bhyvectl("--vm=guest", "--get-debug-cpus").stdout, "debug cpus\t0\n")
        before = self.bhyvectl("--vm=guest", "--get-rip").stdout
        after = self.bhyvectl("--vm=guest", "--step", "--get-rip").stdout
        self.assertEqual(before, after)  # it jumps to itself
        self.assert_done(self.bhyvectl("--vm=guest", "--set-rip=0x200000"))
        self.assertNotEqual(self.bhyvectl("--vm=guest", "--step", "--get-rip").stdout, "rip[0]\t0x0000000000200000\n")
        self.assert_refused(self.bhyvectl("--vm=guest", "--cpu=9", "--hold"), 1, "no virtual CPU 9")
        self.assert_done(self.bhyvectl("--vm=guest", "--release"))
        self.assertEqual(self.bhyvectl("--vm=guest", "--get-debug-cpus").stdout, "debug cpus\tnone\n")

    def test_pause_and_resume(self):
        self.assert_done(self.bhyvectl("--vm=guest", "--pause"))
        self.assertEqual(self.bhyvectl("--vm=guest", "--get-suspended-cpus").stdout, "suspended cpus\t0\n")
        self.assert_done(self.bhyvectl("--vm=guest", "--resume"))
        self.assertEqual(self.bhyvectl("--vm=guest", "--get-suspended-cpus").stdout, "suspended cpus\tnone\n")

    def test_destroy_while_it_runs(self):
        self.assert_done(self.bhyvectl("--vm=guest", "--destroy"))
        self.child.wait(60)
        self.assertEqual(self.machines(), [])

    def test_after_kill_everything_works_again(self):
        self.child.kill()
        self.child.wait()
        self.assertEqual(self.bhyvectl("--vm=guest", "--get-rip").returncode, 0)
        self.assert_done(self.bhyveload("-m", "64M", "-k", self.kernel(say("n") + POWER_OFF, "next"), "guest"))
        self.assertEqual(self.bhyve(*BOARD, "guest").stdout, "n")
        self.assert_done(self.bhyvectl("--vm=guest", "--destroy"))

    def test_after_kill_bhyve_runs_it_again(self):
        self.child.kill()
        self.child.wait()
        again = self.start_tool("bhyve", *BOARD, "guest")
        self.assertEqual(again.stdout.read(1), "r")

    def test_a_terminal_less_machine_needs_no_tty(self):
        self.assertFalse(os.isatty(self.child.stdout.fileno()))


class KilledTransient(ToolTest):
    def test_what_a_killed_run_left_is_taken_over_and_destroyed(self):
        kernel = self.kernel(say("r") + SPIN)
        child = self.start_tool("bhyve", *BOARD, "-b", "linux,kernel=" + kernel, "guest")
        self.assertEqual(child.stdout.read(1), "r")
        child.kill()
        child.wait()
        self.assertEqual(self.machines(), ["guest"])
        code = self.kernel(POWER_OFF, "second")
        self.assertEqual(self.bhyve(*BOARD, "-b", "linux,kernel=" + code, "guest").returncode, 1)
        self.assertEqual(self.machines(), [])


if __name__ == "__main__":
    unittest.main()

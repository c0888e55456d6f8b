"""bhyvectl on a machine that does not run."""
import json
import time
import unittest

from tool import POWER_OFF, ToolTest


class Existence(ToolTest):
    def test_create_twice(self):
        self.assert_done(self.bhyvectl("--vm=guest", "--create"))
        self.assert_refused(self.bhyvectl("--vm=guest", "--create"), 1, "guest")
        self.assert_done(self.bhyvectl("--vm=guest", "--destroy"))
        self.assert_refused(self.bhyvectl("--vm=guest", "--destroy"), 1, "guest")

    def test_create_with_memory(self):
        self.assert_done(self.bhyvectl("--vm=guest", "--create", "--set-mem=32"))
        self.assertEqual(self.bhyvectl("--vm=guest", "--get-lowmem").stdout, "lowmem\t0x0000000002000000\n")

    def test_memory_above_4_gib(self):
        if self.bhyvectl("--vm=guest", "--create", "--set-mem=4G").returncode != 0:
            self.skipTest("no room for 4 GiB")
        lines = self.bhyvectl("--vm=guest", "--get-memmap", "--get-highmem").stdout.splitlines()
        self.assertIn("0x0000000100000000", lines[1])
        self.assertEqual(lines[2], "highmem\t0x0000000040000000")

    def test_no_arguments_print_the_options(self):
        result = self.bhyvectl()
        self.assertEqual(result.returncode, 1)
        self.assertIn("--get-rip", result.stderr)

    def test_missing_and_unknown(self):
        self.assert_refused(self.bhyvectl("--vm=none", "--get-rip"), 1, "none")
        self.assert_refused(self.bhyvectl("--get-rip"), 1, "--vm=NAME")
        self.assert_refused(self.bhyvectl("--vm=none", "--get-eip"), 1, "--get-eip")
        self.assert_refused(self.bhyvectl("--vm=none", "word"), 1, "word")


class Stopped(ToolTest):
    def setUp(self):
        super().setUp()
        self.assert_done(self.bhyveload("-m", "64M", "-k", self.kernel(POWER_OFF), "guest"))

    def get(self, *items):
        result = self.bhyvectl("--vm=guest", *items)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def test_every_register_can_be_shown(self):
        usage = self.bhyvectl().stderr
        shown = self.get("--get-all")
        for name in ("efer", "cr0", "cr2", "cr3", "cr4", "dr0", "dr6", "dr7", "rsp", "rip", "rax", "r15", "rflags", "cs", "ss", "tr", "ldtr"):
            self.assertIn(f"--get-{name} ", usage)
            self.assertRegex(shown, rf"(?m)^{name}\[0\]\t0x[0-9a-f]{{16}}$")

    def test_writes_come_before_reads(self):
        self.assertEqual(self.get("--get-rax", "--set-rax=0xfeed"), "rax[0]\t0x000000000000feed\n")
        self.assertEqual(self.get("--get-rax"), "rax[0]\t0x000000000000feed\n")

    def test_descriptors(self):
        self.assert_done(self.bhyvectl("--vm=guest", "--set-desc-gdtr", "--desc-base=0x5000", "--desc-limit=23", "--desc-access=0"))
        self.assertEqual(self.get("--get-desc-gdtr"), "gdtr desc[0]\t0x0000000000005000/0x00000017/0x00000000\n")
        self.assert_refused(self.bhyvectl("--vm=guest", "--set-desc-cs", "--desc-base=0"), 1, "--desc-limit=")

    def test_impossible_values_change_nothing(self):
        before = self.get("--get-cr0", "--get-cs")
        self.assert_refused(self.bhyvectl("--vm=guest", "--set-cs=0x12345"), 1, "cs", "16 bits")
        self.assert_refused(self.bhyvectl("--vm=guest", "--set-cr0=0x80000000"), 1)
        self.assert_refused(self.bhyvectl("--vm=guest", "--set-cr0=abc"), 1, "abc")
        self.assertEqual(self.get("--get-cr0", "--get-cs"), before)

    def test_processors(self):
        self.assertEqual(self.get("--get-active-cpus", "--get-cpu-topology"),
                         "active cpus\t0\ncpu_topology\tsockets=1, cores=1, threads=1, maxcpus=64\n")
        self.assert_refused(self.bhyvectl("--vm=guest", "--cpu=1", "--get-rip"), 1, "no virtual CPU 1")

    def test_hardware_fields_do_not_exist(self):
        for option in ("--get-vmcs-link", "--get-vmcb-asid", "--get-eptp", "--get-exit-reason", "--set-exception-bitmap=0"):
            self.assert_refused(self.bhyvectl("--vm=guest", option), 1, option.split("=")[0], "software engine")

    def test_clock(self):
        self.assertAlmostEqual(int(self.get("--get-rtc-time").split("\t")[1]), time.time(), delta=50000)
        self.assert_done(self.bhyvectl("--vm=guest", "--set-rtc-time=1000000000"))
        self.assertEqual(self.get("--get-rtc-time"), "rtc time\t1000000000\n")

    def test_memory_of_the_clock(self):
        self.assert_done(self.bhyvectl("--vm=guest", "--set-rtc-nvram=0x5a", "--rtc-nvram-offset=0x40"))
        self.assertEqual(self.get("--get-rtc-nvram", "--rtc-nvram-offset=0x40"), "rtc nvram[064]\t0x5a\n")
        self.assert_refused(self.bhyvectl("--vm=guest", "--set-rtc-nvram=0x5a"), 1, "--rtc-nvram-offset")

    def test_page(self):
        self.assertEqual(self.get("--get-gpa-pmap=0x200123"), "gpa 0x0000000000200123\tsysmem+0x200000 rwx\n")
        self.assertEqual(self.get("--get-gpa-pmap=0xc0000000"), "gpa 0x00000000c0000000\tno memory\n")

    def test_nmi_waits(self):
        self.assert_done(self.bhyvectl("--vm=guest", "--inject-nmi"))
        self.assertEqual(self.get("--get-intinfo"), "intinfo[0]\t0x0000000080000202\n")

    def test_capabilities(self):
        self.assertEqual(self.get("--capname=hlt_exit", "--getcap"), 'capability "hlt_exit"\tis set on vcpu 0\n')
        self.assert_refused(self.bhyvectl("--vm=guest", "--getcap"), 1, "--capname=NAME")

    def test_what_needs_a_running_machine(self):
        for option in ("--hold", "--step", "--release", "--force-reset", "--force-poweroff", "--assert-lapic-lvt=0", "--get-vm-pid"):
            self.assert_refused(self.bhyvectl("--vm=guest", option), 1, "guest does not run")

    def test_x2apic_state(self):
        self.assert_done(self.bhyvectl("--vm=guest", "--set-x2apic-state=0"))
        self.assertEqual(self.get("--get-x2apic-state"), "x2apic_state[0]\t0x0000000000000000\n")

    def test_json(self):
        report = json.loads(self.get("--json", "--get-rip", "--get-stats"))
        self.assertEqual(report["items"][0], {"name": "rip", "vcpu": 0, "value": "0x0000000000200000"})


if __name__ == "__main__":
    unittest.main()

"""bhyve's command line: what libvirt and scripts made for bhyve look for, and the configuration round trip."""
import json
import unittest

from tool import ToolTest


class ProbesOfLibvirt(ToolTest):
    def test_usage_is_on_stderr_with_the_utc_clock_and_without_the_old_topology(self):
        result = self.bhyve("-h")
        self.assertEqual(result.returncode, 0)
        self.assertEqual(result.stdout, "")
        self.assertIn("-u:", result.stderr)
        self.assertNotIn("-c vcpus", result.stderr)

    def test_unknown_device(self):
        for device in ("ahci", "e1000", "xhci", "hda", "virtio-9p", "nonsense"):
            self.assert_refused(self.bhyve("-s", "0," + device), 4, f'pci slot 0:0: unknown device "{device}"')

    def test_known_device_without_a_name_is_a_usage_error_that_does_not_name_the_device(self):
        result = self.bhyve("-s", "0,virtio-rnd")
        self.assertEqual(result.returncode, 1)
        self.assertNotIn("unknown device", result.stderr)

    def test_boot_rom(self):
        self.assert_refused(self.bhyve("-l", "bootrom"), 4, "bhyve: invalid lpc device configuration 'bootrom'")

    def test_password_of_the_display(self):
        self.assert_refused(self.bhyve("-s", "0,fbuf,password="), 4, 'Invalid fbuf emulation "password"')

    def test_grub_bhyve(self):
        result = self.run_tool("grub-bhyve", "--help")
        self.assertEqual(result.returncode, 0)
        self.assertIn("--cons-dev", result.stdout)


class Usage(ToolTest):
    def test_lists(self):
        for flag, word in (("-s", "virtio-blk"), ("-l", "com1")):
            result = self.bhyve(flag, "help")
            self.assertEqual(result.returncode, 0)
            self.assertIn(word, result.stdout)

    def test_version(self):
        for tool in ("bhyve", "bhyveload", "bhyvectl", "grub-bhyve"):
            result = self.run_tool(tool, "--version")
            self.assertEqual(result.returncode, 0)
            self.assertTrue(result.stdout.startswith(tool + " (anyhyve) "))

    def test_usage_errors_exit_1(self):
        for arguments in ((), ("-Z", "guest"), ("one", "two"), ("-m",)):
            result = self.bhyve(*arguments)
            self.assertEqual(result.returncode, 1, arguments)
            self.assertIn("Usage: bhyve", result.stderr)

    def test_functions_this_version_lacks_are_refused_by_name(self):
        for arguments in (("-G", "1234"), ("-r", "file"), ("-n", "id=0,size=1G"), ("-f", "name=a,string=b"), ("-K", "de"),
                          ("-o", "gdb.port=1234"), ("-o", "bootrom=/rom"), ("-o", "engine=kvm")):
            self.assert_refused(self.bhyve(*arguments, "guest"), 4, "this version")

    def test_unknown_engine(self):
        self.assert_refused(self.bhyve("-o", "engine=fast", "guest"), 4, "engine=fast", "auto, kvm or soft")

    def test_doctor(self):
        text = self.bhyve("--doctor")
        self.assertEqual(text.returncode, 0)
        self.assertIn("engine", text.stdout)
        report = json.loads(self.bhyve("--doctor", "--json").stdout)
        self.assertEqual(report["engine"]["name"], "soft")
        self.assertEqual(report["vmm_directory"]["path"], self.vmm)
        self.assertIsInstance(report["huge_pages"], bool)
        self.assertIn("huge pages", text.stdout)


class Configuration(ToolTest):
    flags = ("-A", "-H", "-P", "-u", "-w", "-Y", "-c", "4,sockets=2,cores=2", "-m", "512M", "-U", "11111111-2222-3333-4444-555555555555",
             "-s", "0,hostbridge", "-s", "31,lpc", "-s", "3:1,virtio-blk,/tmp/disk.img,ro,ser=one", "-l", "com1,stdio", "-p", "0-1:0-1",
             "-b", "linux,kernel=/k,cmdline=console=ttyS0,115200 x=100% y=%(name)")

    def test_dump_exits_1_and_comes_back_through_a_file(self):
        first = self.bhyve(*self.flags, "-o", "config.dump=1", "guest")
        self.assertEqual(first.returncode, 1)
        self.assertIn("memory.size=512M\n", first.stdout)
        self.assertIn("pci.0.3.1.path=/tmp/disk.img\n", first.stdout)
        self.assertNotIn("config.dump", first.stdout)
        saved = self.file("saved", first.stdout.encode())
        second = self.bhyve("-k", saved, "-o", "config.dump=1")
        self.assertEqual(second.stdout, first.stdout)

    def test_the_last_word_wins(self):
        result = self.bhyve("-m", "1G", "-o", "memory.size=2G", "-o", "config.dump=1", "guest")
        self.assertIn("memory.size=2G\n", result.stdout)

    def test_file_errors_name_file_and_line(self):
        bad = self.file("bad", b"# comment\n\nname=guest\nno equals sign\n")
        self.assert_refused(self.bhyve("-k", bad), 4, bad, "4")
        self.assert_refused(self.bhyve("-k", self.folder + "/missing"), 4, "missing")


if __name__ == "__main__":
    unittest.main()

"""Wrong kernels, sizes, names, disks, directories: one clear line each, the right exit status, and nothing left behind."""
import os
import shutil
import subprocess
import tempfile
import unittest

from tool import LIMIT, POWER_OFF, TOOLS, ToolTest, elf_kernel


class Kernels(ToolTest):
    def refused_by_both(self, path, *words):
        self.assert_refused(self.bhyveload("-m", "64M", "-k", path, "guest"), 1, *words)
        self.assert_refused(self.bhyve("-m", "64M", "-b", "linux,kernel=" + path, "guest"), 4, *words)
        self.assertEqual(self.machines(), [])

    def test_missing(self):
        self.refused_by_both(self.folder + "/none", "none", "No such file")

    def test_directory(self):
        self.refused_by_both(self.folder, self.folder)

    def test_empty_one_byte_and_text(self):
        for content in (b"", b"x", b"this is no kernel" * 1000):
            self.refused_by_both(self.file("kernel", content), "kernel")

    def test_truncated(self):
        whole = elf_kernel(POWER_OFF + bytes(8192))
        for length in (10, 63, 64, 100, 0x1000, 0x1010):
            result = self.bhyveload("-m", "64M", "-k", self.file("kernel", whole[:length]), "guest")
            self.assert_refused(result, 1, "kernel")
            self.assertEqual(self.machines(), [])

    def test_initrd(self):
        kernel = self.kernel(POWER_OFF)
        self.assert_refused(self.bhyveload("-k", kernel, "-i", self.folder + "/none", "guest"), 1, "none")
        big = self.folder + "/big"
        with open(big, "wb") as out:
            out.truncate(200 << 20)
        self.assert_refused(self.bhyveload("-m", "64M", "-k", kernel, "-i", big, "guest"), 1, "big")
        self.assertEqual(self.machines(), [])

    def test_a_failed_load_of_an_existing_machine_leaves_it(self):
        self.assert_done(self.bhyveload("-m", "64M", "-k", self.kernel(POWER_OFF), "guest"))
        self.assert_refused(self.bhyveload("-m", "64M", "-k", self.file("bad", b"bad"), "guest"), 1, "bad")
        self.assertEqual(self.machines(), ["guest"])
        self.assertEqual(self.bhyve("guest").returncode, 1)

    def test_entry(self):
        self.assert_refused(self.bhyveload("-k", self.kernel(POWER_OFF), "--entry=16", "guest"), 1, "16")

    def test_the_freebsd_loader(self):
        self.assert_refused(self.bhyveload("guest"), 1, "-k KERNEL", "FreeBSD")
        self.assert_refused(self.bhyveload("-d", "disk.img", "guest"), 1, "-d disk.img", "FreeBSD")


class Sizes(ToolTest):
    def test_memory(self):
        kernel = self.kernel(POWER_OFF)
        for size in ("0", "1M", "1T", "12Q", "", "x", "-1"):
            self.assert_refused(self.bhyveload("-m", size, "-k", kernel, "guest"), 1, f"memory size '{size}'")
            self.assert_refused(self.bhyve("-m", size, "-b", "linux,kernel=" + kernel, "guest"), 4, f"memory size '{size}'")
        self.assertEqual(self.machines(), [])

    def test_processors(self):
        kernel = self.kernel(POWER_OFF)
        for count in ("0", "9999", "70000", "x", "2,cores=3"):
            self.assert_refused(self.bhyve("-c", count, "-b", "linux,kernel=" + kernel, "guest"), 4)
        self.assertEqual(self.machines(), [])


class Devices(ToolTest):
    def refused(self, *flags):
        result = self.bhyve("-m", "64M", *flags, "-b", "linux,kernel=" + self.kernel(POWER_OFF), "guest")
        self.assertEqual(result.returncode, 4, result.stderr)
        self.assertEqual(self.machines(), [])
        return result.stderr.splitlines()[-1]

    def test_disks(self):
        self.assertIn("none.img", self.refused("-s", "3,virtio-blk,/none.img"))
        self.assertIn(self.folder, self.refused("-s", "3,virtio-blk," + self.folder))
        self.assertIn("virtio-blk", self.refused("-s", "3,virtio-blk"))

    def test_a_disk_of_odd_size_is_used_without_its_last_bytes(self):
        result = self.bhyve("-m", "64M", "-s", "3,virtio-blk," + self.file("odd.img", bytes(1000)), "-b", "linux,kernel=" + self.kernel(POWER_OFF), "guest")
        self.assertEqual(result.returncode, 1)
        self.assertIn("odd.img: 1000 bytes are no multiple", result.stderr)

    def test_slots(self):
        self.assertIn("0:3:0 already occupied", self.refused("-s", "3,virtio-rnd", "-s", "3,virtio-rnd"))
        self.assertIn("name of a device", self.refused("-s", "3"))
        self.assertIn("slots 0-31", self.refused("-s", "32,virtio-rnd"))
        self.assertIn('unknown device "nonsense"', self.refused("-o", "pci.0.3.0.device=nonsense"))

    def test_unknown_options_of_devices(self):
        self.assertIn("colour", self.refused("-s", "3,virtio-rnd,colour=red"))

    def test_console(self):
        self.assertIn("com1", self.refused("-l", "com1,/none/tty"))
        self.assertIn("com2", self.refused("-l", "com1,stdio", "-l", "com2,stdio"))

    def test_uuid(self):
        self.assertIn("not-a-uuid", self.refused("-U", "not-a-uuid"))


class Names(ToolTest):
    def test_names(self):
        kernel = self.kernel(POWER_OFF)
        for name in ("a/b", "..", ".", "a b", "", "x" * 300, "new\nline"):
            self.assert_refused(self.bhyveload("-k", kernel, name), 1, "name")
            self.assert_refused(self.bhyvectl("--vm=" + name, "--create"), 1, "name")
            self.assertEqual(self.bhyve("-b", "linux,kernel=" + kernel, name).returncode, 4)
        self.assertEqual(self.machines(), [])

    def test_missing_machine(self):
        self.assert_refused(self.bhyve("guest"), 4, "guest")


class Directories(ToolTest):
    def test_damaged_or_foreign_state(self):
        self.assert_done(self.bhyveload("-m", "64M", "-k", self.kernel(POWER_OFF), "guest"))
        path = self.vmm + "/guest/state"
        with open(path, "rb") as source:
            good = source.read()
        damaged = bytearray(good)
        damaged[len(damaged) // 2] ^= 0x40
        for content in (b"", b"x", good[:-1], bytes(damaged), b"#!/bin/sh\n" * 100):
            with open(path, "wb") as out:
                out.write(content)
            result = self.bhyve("guest")
            self.assertEqual(result.returncode, 4)
            self.assertIn("state", result.stderr.splitlines()[-1])
            self.assert_refused(self.bhyvectl("--vm=guest", "--get-rip"), 1, "state")
        self.assert_done(self.bhyvectl("--vm=guest", "--destroy"))

    def test_damaged_configuration(self):
        self.assert_done(self.bhyveload("-m", "64M", "-k", self.kernel(POWER_OFF), "guest"))
        with open(self.vmm + "/guest/config", "wb") as out:
            out.write(b"nonsense\n")
        self.assert_refused(self.bhyve("guest"), 4, "guest", "damaged")
        self.assert_done(self.bhyvectl("--vm=guest", "--destroy"))

    def test_no_directory(self):
        result = self.run_tool("bhyveload", "-k", self.kernel(POWER_OFF), "guest", VMM_DIR="/none/vmm")
        self.assert_refused(result, 1, "/none/vmm")

    def test_no_permission(self):
        if os.geteuid() != 0:
            self.skipTest("needs root to become somebody else")
        os.chmod(self.folder, 0o755)
        kernel = self.kernel(POWER_OFF)
        os.chmod(kernel, 0o644)
        result = subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", os.path.join(TOOLS, "bhyveload"), "-k", kernel, "guest"],
                                env=self.environment(), capture_output=True, text=True, timeout=LIMIT, check=False)
        if "setpriv" in result.stderr or result.returncode == 126:
            self.skipTest("setpriv does not work here")
        self.assert_refused(result, 1, self.vmm)

    def mount_small(self):
        """A tmpfs of 16 MiB for virtual machines."""
        mount = tempfile.mkdtemp(prefix="anyhyve-test.", dir="/tmp")
        self.addCleanup(os.rmdir, mount)
        if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "none", mount], check=False, capture_output=True).returncode:
            self.skipTest("needs to mount a tmpfs")
        self.addCleanup(subprocess.run, ["umount", mount], check=False)
        return mount

    def test_full_file_system(self):
        mount = self.mount_small()
        # /dev/shm would take the memory: in a mount name space of its own it is as small.
        small_shared = "mount -t tmpfs -o size=16m,mode=1777 none /dev/shm || exit 77; exec \"$@\""
        kernel = os.path.join(mount, "kernel")
        shutil.copy(self.kernel(POWER_OFF), kernel)
        result = subprocess.run(["unshare", "-m", "sh", "-c", small_shared, "sh", os.path.join(TOOLS, "bhyveload"), "-m", "64M", "-k", kernel, "guest"],
                                env=self.environment(VMM_DIR=mount), capture_output=True, text=True, timeout=LIMIT, check=False)
        if result.returncode == 77 or "unshare" in result.stderr:
            self.skipTest("needs a mount name space")
        self.assert_refused(result, 1, "64 MiB", "15 MiB")
        self.assertEqual([name for name in os.listdir(mount) if name not in ("directory lock", "kernel")], [])

    def test_small_file_system_takes_memory_from_shared_memory(self):
        mount = self.mount_small()
        status = os.statvfs("/dev/shm")
        if status.f_bavail * status.f_frsize < 80 << 20:
            self.skipTest("/dev/shm has no room either")
        self.assert_done(self.run_tool("bhyveload", "-m", "64M", "-k", self.kernel(POWER_OFF), "guest", VMM_DIR=mount))
        self.assertTrue(os.readlink(mount + "/guest/memory").startswith("/dev/shm/vmm."))
        self.assert_done(self.run_tool("bhyvectl", "--vm=guest", "--destroy", VMM_DIR=mount))
        self.assertFalse(os.path.exists(mount + "/guest"))


class Grub(ToolTest):
    def test_it_says_what_it_cannot_do(self):
        self.assert_refused(self.run_tool("grub-bhyve", "-r", "hd0,msdos1", "-M", "256", "guest"), 1, "guest", "hd0,msdos1")
        self.assert_refused(self.run_tool("grub-bhyve", "-M", "12Q", "guest"), 1, "12Q")
        self.assert_refused(self.run_tool("grub-bhyve", "--device-map", "/none", "guest"), 1, "/none")


if __name__ == "__main__":
    unittest.main()

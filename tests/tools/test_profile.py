"""Where the time goes: bhyve --profile, bhyvectl --profile, and the names for perf."""
import json
import os
import unittest

from tool import POWER_OFF, SPIN, ToolTest, say

BOARD = ("-m", "64M", "-l", "com1,stdio")
# mov ecx, 20000000; loop of one instruction
BUSY = b"\xb9\x00\x2d\x31\x01" + b"\xe2\xfe"


class Profile(ToolTest):
    def boot(self, code):
        return f"linux,kernel={self.kernel(code)}"

    def test_report_at_the_end(self):
        report = os.path.join(self.folder, "report.txt")
        result = self.bhyve(f"--profile={report}", *BOARD, "-b", self.boot(BUSY + say("x") + POWER_OFF), "guest")
        self.assertEqual((result.returncode, result.stdout), (1, "x"), result.stderr)
        with open(report, encoding="utf-8") as file:
            text = file.read()
        self.assertRegex(text, r" ms running\n")
        self.assertRegex(text, r"\n +20000000 +loop instruction\n")
        self.assertRegex(text, r"\n +\d+ +out\n")
        self.assertRegex(text, r"% +200005 kernel32(\.hot)? \(physical 200005\)")
        self.assertRegex(text, r"\n +200005  loop 0x200005\n")

    def test_without_a_file_it_goes_to_standard_error(self):
        result = self.bhyve("--profile", *BOARD, "-b", self.boot(say("x") + POWER_OFF), "guest")
        self.assertEqual((result.returncode, result.stdout), (1, "x"), result.stderr)
        self.assertIn("Ends of blocks", result.stderr)

    def test_json(self):
        report = os.path.join(self.folder, "report.json")
        self.bhyve(f"--profile={report}", "--json", *BOARD, "-b", self.boot(BUSY + POWER_OFF), "guest")
        with open(report, encoding="utf-8") as file:
            profile = json.load(file)
        self.assertTrue(profile["detailed"])
        self.assertEqual(profile["hottest"][0]["rip"], "0x0000000000200005")
        self.assertEqual(profile["hottest"][0]["bytes"], "e2fe")
        self.assertIn("Ends of blocks", [section["title"] for section in profile["sections"]])

    def test_unknown_format(self):
        self.assert_refused(self.bhyve("-o", "soft.profile_format=xml", *BOARD, "-b", self.boot(POWER_OFF), "guest"), 4, "xml")


class Running(ToolTest):
    def start(self, *options):
        child = self.start_tool("bhyve", *options, "-m", "64M", "-l", "com1,stdio", "-b", f"linux,kernel={self.kernel(say('y') + SPIN)}", "guest")
        self.assertEqual(child.stdout.read(1), "y")
        return child

    def test_a_running_machine_is_asked(self):
        self.start("--profile")
        text = self.bhyvectl("--vm=guest", "--profile").stdout
        self.assertIn("Hottest blocks", text)
        answer = json.loads(self.bhyvectl("--vm=guest", "--profile", "--json").stdout)
        profile = answer["items"][0]
        self.assertEqual((answer["vm"], profile["name"], profile["detailed"]), ("guest", "profile", True))
        self.assertGreater(profile["run_microseconds"], 0)

    def test_counters_are_there_without_it(self):
        self.start()
        text = self.bhyvectl("--vm=guest", "--profile").stdout
        self.assertIn("blocks translated", text)
        self.assertIn("started without --profile", text)

    def test_names_for_perf(self):
        child = self.start("-o", "soft.perf_map=true")
        path = f"/tmp/perf-{child.pid}.map"
        self.addCleanup(os.unlink, path)
        with open(path, encoding="utf-8") as file:
            text = file.read()
        self.assertRegex(text, r"(?m)^[0-9a-f]+ [0-9a-f]+ guest_200000\.kernel32$")
        self.assertRegex(text, r"(?m)^[0-9a-f]+ [0-9a-f]+ anyhyve_enter$")

    def test_stopped(self):
        self.assert_done(self.bhyveload("-m", "64M", "-k", self.kernel(POWER_OFF), "guest"))
        self.assert_refused(self.bhyvectl("--vm=guest", "--profile"), 1, "does not run")


if __name__ == "__main__":
    unittest.main()

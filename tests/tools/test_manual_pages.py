"""Manual pages: those in docs/man are what the option tables say now, and mandoc finds nothing wrong with them."""
import os
import shutil
import subprocess
import unittest

from tool import ToolTest

DOCS = os.environ["ANYHYVE_MANUAL_PAGES"]
PAGES = ("bhyve.8", "bhyveload.8", "bhyvectl.8", "grub-bhyve.8")


class ManualPages(ToolTest):
    def setUp(self):
        super().setUp()
        self.assert_done(self.run_tool("generate-man", self.folder))

    def test_the_checked_in_pages_are_current(self):
        for page in PAGES:
            with open(os.path.join(self.folder, page)) as made, open(os.path.join(DOCS, page)) as kept:
                self.assertEqual(made.read(), kept.read(), f"{page}: run generate-man docs/man")

    def test_mandoc_finds_nothing_wrong(self):
        if not shutil.which("mandoc"):
            self.skipTest("mandoc is not installed")
        for page in PAGES:
            result = subprocess.run(["mandoc", "-Tlint", "-Wwarning", os.path.join(self.folder, page)], capture_output=True, text=True, check=False)
            self.assertEqual(result.stdout, "")


if __name__ == "__main__":
    unittest.main()

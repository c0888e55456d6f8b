"""One virtual machine of a test: its files, and the tools that make, run and inspect it. Everything goes away with it."""
import os
import shutil
import subprocess
import tempfile

from check_shell import Console, Failure

TOOLS = os.environ.get('ANYHYVE_TOOLS', '')
LIMIT = 120  # seconds for a tool that does not run a guest
NAME = 'guest'


class NoRoom(Exception):
    pass


def place_for_memory(size):
    """A folder whose file system has room for a machine's memory, in memory if it can be."""
    wanted = int(size[:-1]) << {'M': 20, 'G': 30}[size[-1]]
    for folder in ('/dev/shm', tempfile.gettempdir()):
        if os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > wanted:
            return folder
    raise NoRoom(f'there is no room for {size} of memory')


class Machine:
    def __init__(self, row, images):
        self.cpus = row.getint('cpus')
        self.root = row['root']
        self.expected_status = row.getint('status')
        self.options = []
        self.consoles = []
        self.disks = []
        self.row = row
        self.images = images
        self.vmm = tempfile.mkdtemp(prefix='anyhyve-vmm.', dir=place_for_memory(row['memory']))
        os.chmod(self.vmm, 0o700)
        # Disks may be large: not into memory.
        self.folder = tempfile.mkdtemp(prefix='anyhyve-guest.')
        os.environ['VMM_DIR'] = self.vmm
        image = {'disk': images.root, 'stress': images.stress}.get(self.root)
        if image:
            path = os.path.join(self.folder, 'root')
            subprocess.run(['cp', '--sparse=always', image, path], check=True)
            self.disks.append(path)

    def close(self):
        for console in self.consoles:
            console.end()
        shutil.rmtree(self.vmm, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def disk(self, name, size, fill=None):
        """Another disk; the first is /dev/vda. `fill(n)` gives n bytes of it, without it the disk is empty."""
        path = os.path.join(self.folder, name)
        with open(path, 'wb') as file:
            file.truncate(size)
            while fill and file.tell() < size:
                file.write(fill(min(size - file.tell(), 4 << 20)))
        self.disks.append(path)
        return path

    def board(self):
        words = ['-c', str(self.cpus), '-m', self.row['memory'], '-H', '-A', '-s', '0,hostbridge', '-s', '31,lpc', '-l', 'com1,stdio']
        for number, path in enumerate(self.disks):
            words += ['-s', f'{3 + number},virtio-blk,{path}']
        return words + self.options

    def kernel(self):
        return getattr(self.images, self.row['image'])

    def initrd(self):
        return {'ram': self.images.ram, 'clocks': self.images.clocks, 'none': None}.get(self.root, self.images.initrd)

    def command_line(self):
        return ' '.join(['console=ttyS0', 'panic=-1', self.row.get('cmdline', '')]).strip()

    def start(self, words):
        console = GuestConsole([os.path.join(TOOLS, 'bhyve'), *words, NAME])
        self.consoles.append(console)
        return console

    def boot(self):
        entry = self.row['entry']
        initrd = f'initrd={self.initrd()},' if self.initrd() else ''
        return self.start([*self.board(), '-b', f'linux,kernel={self.kernel()},{initrd}entry={entry},cmdline={self.command_line()}'])

    def boot_loaded(self):
        return self.start(self.board())

    def tool(self, name, *words):
        result = subprocess.run([os.path.join(TOOLS, name), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, check=False)
        if result.returncode or result.stderr:
            raise Failure(f'{name} {" ".join(words)} ended with status {result.returncode}: {result.stderr.strip()}')
        return result.stdout

    def load(self):
        self.tool('bhyveload', '-m', self.row['memory'], '-k', self.kernel(), '-i', self.initrd(), '-a', self.command_line(),
                  f'--entry={self.row["entry"]}', NAME)

    def bhyvectl(self, *words):
        return self.tool('bhyvectl', f'--vm={NAME}', *words)

    def machines(self):
        return [name for name in os.listdir(self.vmm) if name != 'directory lock']

    def power_off(self):
        self.consoles[-1].send('sync; poweroff -f')
        self.wait_for_end()

    def wait_for_end(self):
        status = self.consoles[-1].wait_for_end()
        if status != self.expected_status:
            raise Failure(f'bhyve ended with status {status}, not {self.expected_status}')

    def output(self):
        return ''.join(console.output.decode('utf-8', 'replace').replace('\r', '') for console in self.consoles)


class GuestConsole(Console):
    def send(self, line):
        self.process.stdin.write(line.encode() + b'\n')

    def wait_for_end(self):
        try:
            self.wait_for(b'\0 never printed \0')
        except Failure:
            if self.process.poll() is None:
                raise
        return self.process.wait()

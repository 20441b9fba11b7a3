"""power_cut.py MOUNT PID: waits for a line on stdin, then stops the process and cuts its file system off, at once.

The process is stopped (SIGSTOP), because without power nothing answers: else it could still acknowledge what it flushed
in the very instant of the cut, which ext4 calls a success. The cut is the shutdown ioctl of ext4 and XFS (number 125 of
group 'X', a 32-bit number in) with the flag "do not flush the log": nothing that was not synced before reaches the device
any more. Needs root, and a file system that nobody else uses.
"""

import fcntl
import os
import signal
import struct
import sys

READ, SIZE, GROUP, NUMBER = 2 << 30, 4 << 16, ord("X") << 8, 125
NO_LOG_FLUSH = 2

mount = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
process = int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
os.kill(process, signal.SIGSTOP)
fcntl.ioctl(mount, READ | SIZE | GROUP | NUMBER, struct.pack("I", NO_LOG_FLUSH))

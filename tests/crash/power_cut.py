"""power_cut.py MOUNT PID: waits for a line on stdin, then kills the process and cuts its file system off, at once;
prints when, in milliseconds since 1970.

The process is killed first, because without power nothing answers: else it could still acknowledge what it flushed in
the very instant of the cut, which ext4 calls a success. SIGKILL and not SIGSTOP: the one holds for all threads when the
call returns, the other only once one of them has noticed. The cut is the shutdown ioctl of ext4 and XFS (number 125 of
group 'X', a 32-bit number in) with the flag "do not flush the log": nothing that was not synced before reaches the device
any more. Needs root, and a file system that nobody else uses.
"""

import fcntl
import os
import signal
import struct
import sys
import time

READ, SIZE, GROUP, NUMBER = 2 << 30, 4 << 16, ord("X") << 8, 125
NO_LOG_FLUSH = 2

mount = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
process = int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
os.kill(process, signal.SIGKILL)
fcntl.ioctl(mount, READ | SIZE | GROUP | NUMBER, struct.pack("I", NO_LOG_FLUSH))
print(int(time.time() * 1000), flush=True)

"""Runs a program on a terminal of its own and types at it.

usage: terminal.py SCRIPT COMMAND [ARGUMENT...]

SCRIPT is a JSON array of [wait for this text, then type this]. Prints one JSON object: the exit code (negative: the signal
that ended it), what the terminal showed, whether the terminal echoed at each step, and whether it did at the end.
"""
import json
import os
import pty
import select
import sys
import termios
import time

SECONDS_MAX = 60


def echoes(fd):
    return bool(termios.tcgetattr(fd)[3] & termios.ECHO)


script = json.loads(sys.argv[1])
# Our descriptor keeps the terminal when the program has ended, so that its last state can be looked at.
fd, terminal = pty.openpty()
pid = os.fork()
if pid == 0:
    os.login_tty(terminal)
    os.execvp(sys.argv[2], sys.argv[2:])
shown, seen, echo = b"", 0, []
end = time.time() + SECONDS_MAX
status = None
while time.time() < end:
    if select.select([fd], [], [], 0.05)[0]:
        shown += os.read(fd, 65536)
        continue
    if script:
        at = shown.find(script[0][0].encode(), seen)
        if at >= 0:
            seen = at + len(script[0][0])
            # A prompt (it ends with a colon) comes before the echo is turned off.
            until = time.time() + (10 if script[0][0].endswith(":") else 0.3)
            while time.time() < until and echoes(fd):
                time.sleep(0.05)
            echo.append(echoes(fd))
            os.write(fd, script.pop(0)[1].encode())
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended:
        break
else:
    os.kill(pid, 9)
    ended, status = os.waitpid(pid, 0)
while select.select([fd], [], [], 0.05)[0]:
    shown += os.read(fd, 65536)
print(json.dumps({"code": os.waitstatus_to_exitcode(status), "shown": shown.decode(), "echo": echo, "echoAfter": echoes(terminal)}))

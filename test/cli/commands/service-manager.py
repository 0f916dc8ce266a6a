"""A small service manager: python3 service-manager.py NOTIFY [NAME=ADDRESS]... -- COMMAND...

Opens the sockets (a path with its mode, /run/x:0600, or 127.0.0.1:PORT), runs the command with them as sd_listen_fds(3) says, and prints
each datagram of sd_notify(3) as a line of JSON, with the sender's process. Ends as the command does.
"""
import json, os, signal, socket, struct, sys, threading

at = sys.argv.index("--")
notify, specs, command = sys.argv[1], sys.argv[2:at], sys.argv[at + 1:]
listening, names = [], []
for spec in specs:
    name, address = spec.split("=", 1)
    where, _, last = address.rpartition(":")
    if where.startswith("/"):
        s = socket.socket(socket.AF_UNIX)
        s.bind(where)
        os.chmod(where, int(last, 8))
    else:
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((where, int(last)))
    s.listen()
    listening.append(s)
    names.append(name)

told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
told.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
told.bind("\0" + notify[1:] if notify.startswith("@") else notify)

pid = os.fork()
if pid == 0:
    high = [os.dup2(s.fileno(), 100 + i) for i, s in enumerate(listening)]
    for i, fd in enumerate(high):
        os.dup2(fd, 3 + i)
        os.close(fd)
    env = dict(os.environ, NOTIFY_SOCKET=notify, WATCHDOG_USEC="600000", WATCHDOG_PID=str(os.getpid()))
    if listening:
        env.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(listening)), LISTEN_FDNAMES=":".join(names))
    os.execvpe(command[0], command, env)

signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
signal.signal(signal.SIGHUP, lambda *_: os.kill(pid, signal.SIGHUP))


def listen():
    while True:
        data, ancillary, _, _ = told.recvmsg(65536, 1024)
        sender = struct.unpack("iII", ancillary[0][2])[0]
        lines = dict(line.split("=", 1) for line in data.decode().split("\n"))
        print(json.dumps({"fromMain": sender == pid, **lines}), flush=True)


threading.Thread(target=listen, daemon=True).start()
_, status = os.waitpid(pid, 0)
sys.stdout.flush()
os._exit(os.waitstatus_to_exitcode(status) & 255)

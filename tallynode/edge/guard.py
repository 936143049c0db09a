"""Run a program that the kernel kills when our peer dies, without privileges if we have any.

Started as a script: guard.py PARENT_PID USER COMMAND... (USER may be empty). The death signal is
asked for after the change of user, because that change resets it, and before the program runs. A
parent that died in between has already left us to somebody else, which the last check sees.
Standard library only: it is to be gone within milliseconds.
"""

import ctypes
import os
import pwd
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become COMMAND."""
    parent, user, *command = sys.argv[1:]
    if user:
        account = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        sys.exit("parent is gone")
    os.execv(command[0], command)


if __name__ == "__main__":
    main()

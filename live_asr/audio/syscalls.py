"""What the process that reads strangers' bytes may not ask the kernel for: network, programs, neighbours."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import Any

FORBIDDEN = (
    *("socket", "connect", "bind", "listen", "accept", "accept4", "io_uring_setup"),  # the network
    *("execve", "execveat"),  # other programs
    *("kill", "tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_open", "pidfd_send_signal"),
    *("pidfd_getfd", "ptrace", "process_vm_readv", "process_vm_writev"),  # with these, other processes
    *("bpf", "perf_event_open", "userfaultfd", "keyctl", "add_key", "request_key"),
    *(
        "mount",
        "umount2",
        "pivot_root",
        "chroot",
        "setns",
        "unshare",
        "open_by_handle_at",
        "mknod",
        "mknodat",
    ),
    *("init_module", "finit_module", "kexec_load", "kexec_file_load"),
)
"""System calls that are refused with EPERM, where this kernel has them."""


def seccomp() -> Any:
    """Return the module that filters system calls; None where there is none, or no libseccomp."""
    if sys.platform != "linux":
        return None
    try:
        import pyseccomp
    except (ImportError, RuntimeError, AttributeError):
        return None
    return pyseccomp


def forbid() -> bool:
    """Have the kernel refuse this process, for the rest of its life, what `FORBIDDEN` lists.

    Signals go to this process alone. Returns whether it does; not where the system offers no such thing.
    """
    module = seccomp()
    if module is None:
        return False
    refused = module.ERRNO(errno.EPERM)
    try:
        rules = module.SyscallFilter(module.ALLOW)
        rules.set_attr(module.Attr.CTL_TSYNC, 1)  # threads that there are already, too
        for name in FORBIDDEN:
            with contextlib.suppress(ValueError, OSError):  # unknown here: it cannot be called either
                rules.add_rule(refused, name)
        # abort() in a library signals its own process in this way.
        rules.add_rule(refused, "tgkill", module.Arg(0, module.NE, os.getpid()))
        rules.load()
    except OSError:  # a container may forbid it, or a kernel be built without
        return False
    return True

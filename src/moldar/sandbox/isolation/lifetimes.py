"""When a process began, by which it is told from another that got the same pid later."""


def start_time(pid: int) -> int:
    """When a process started, in the kernel's ticks since the boot; 0 when it has ended (proc(5), stat, field 22)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            words = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if words[0] in (b"Z", b"X") else int(words[19])

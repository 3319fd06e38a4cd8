"""The tree digest of a file's range: SHA-256 over the SHA-256 of each MiB. Usage: FILE [OFFSET SIZE]"""

import hashlib
import os
import sys

MIB = 1 << 20
ZERO = hashlib.sha256(bytes(MIB)).digest()

file = os.open(sys.argv[1], os.O_RDONLY)
offset, size = map(int, sys.argv[2:4]) if len(sys.argv) > 2 else (0, os.fstat(file).st_size)
end = offset + size
total = hashlib.sha256()
data = -1
while offset < end:
    length = min(MIB, end - offset)
    if data < offset:
        try:
            data = os.lseek(file, offset, os.SEEK_DATA)
        except OSError:
            data = 1 << 62
    if length == MIB and data >= offset + length:
        total.update(ZERO)
    else:
        total.update(hashlib.sha256(os.pread(file, length, offset)).digest())
    offset += length
print(total.hexdigest())

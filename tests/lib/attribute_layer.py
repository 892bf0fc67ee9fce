#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a layer's tar to stdout whose files have extended attributes: a capability (cap_net_bind_service, effective), as
setcap(8) makes them, and a note of the user's. Source: capabilities(7), File capability versioning; tar's are SCHILY.xattr.*."""
import io
import sys
import tarfile

CAPABILITY = bytes([1, 0, 0, 2, 0, 4, 0, 0] + [0] * 12).decode()
NOTE = {"SCHILY.xattr.user.note": "kept"}


def main():
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for name, mode, attributes in [("attributes", 0o755, NOTE),
                                       ("attributes/capable", 0o755, {"SCHILY.xattr.security.capability": CAPABILITY}),
                                       ("attributes/noted", 0o644, NOTE), ("attributes/plain", 0o644, {})]:
            member = tarfile.TarInfo(name)
            member.mode, member.pax_headers = mode, attributes
            if name == "attributes":
                member.type = tarfile.DIRTYPE
                archive.addfile(member)
            else:
                member.size = len(name)
                archive.addfile(member, io.BytesIO(name.encode()))


main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes into DIR two Java archives of log4j-core 2.14.1, `named.jar`, which says so, and `unnamed.jar`, which does not, and
`java-db`, what Trivy calls its Java DB, which knows the second by its SHA-1."""
import hashlib
import io
import json
import sqlite3
import sys
import zipfile
from pathlib import Path

# Source: trivy-java-db, pkg/db, Init; schema 1.
SCHEMA = """
CREATE TABLE artifacts(id INTEGER PRIMARY KEY, group_id TEXT, artifact_id TEXT);
CREATE TABLE indices(artifact_id INTEGER, version TEXT, sha1 BLOB, archive_type TEXT, foreign key (artifact_id) references artifacts(id));
CREATE UNIQUE INDEX artifacts_idx ON artifacts(artifact_id, group_id);
CREATE INDEX indices_artifact_idx ON indices(artifact_id);
CREATE UNIQUE INDEX indices_sha1_idx ON indices(sha1);
"""
GROUP, ARTIFACT, VERSION = "org.apache.logging.log4j", "log4j-core", "2.14.1"


def jar(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return out.getvalue()


def main(folder):
    manifest = {"META-INF/MANIFEST.MF": "Manifest-Version: 1.0\n"}
    properties = f"groupId={GROUP}\nartifactId={ARTIFACT}\nversion={VERSION}\n"
    unnamed = jar(manifest)
    (folder / "named.jar").write_bytes(jar({**manifest, f"META-INF/maven/{GROUP}/{ARTIFACT}/pom.properties": properties}))
    (folder / "unnamed.jar").write_bytes(unnamed)
    db = folder / "java-db"
    db.mkdir()
    with sqlite3.connect(db / "trivy-java.db") as connection:
        connection.executescript(SCHEMA)
        connection.execute("INSERT INTO artifacts VALUES (1, ?, ?)", (GROUP, ARTIFACT))
        connection.execute("INSERT INTO indices VALUES (1, ?, ?, 'jar')", (VERSION, hashlib.sha1(unnamed).digest()))
    (db / "metadata.json").write_text(json.dumps({"Version": 1, "UpdatedAt": "2026-11-20T00:00:00Z",
                                                  "NextUpdate": "2026-11-23T00:00:00Z", "DownloadedAt": "2026-11-20T00:00:00Z"}))


main(Path(sys.argv[1]))

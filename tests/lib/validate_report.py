#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Holds JSON documents against a JSON schema: validate_report.py SCHEMA DOCUMENT...

Schemas that it refers to lie beside it. Prints a line for each thing that is wrong, and ends with 1 where there is one. The
library is Debian's python3-jsonschema; with python3-rfc3987 it looks at URIs, too.
"""
import json
import sys
from pathlib import Path

import jsonschema


class Offline(jsonschema.RefResolver):
    """What is not beside the schema is not fetched, and wrong."""

    def resolve_remote(self, uri):
        sys.exit(f"{uri} is not beside the schema")


def main():
    schema_file = Path(sys.argv[1])
    schema = json.loads(schema_file.read_text(encoding="utf-8"))
    validator = jsonschema.validators.validator_for(schema)
    validator.check_schema(schema)
    beside = {}
    for file in schema_file.parent.glob("*.json"):
        other = json.loads(file.read_text(encoding="utf-8"))
        beside[other.get("$id") or other.get("id", file.name)] = other
    resolver = Offline(schema.get("$id") or schema.get("id", ""), schema, store=beside)
    formats = jsonschema.FormatChecker()
    if "uri" not in formats.checkers:
        sys.exit("nothing looks at URIs: python3-rfc3987 is not installed")
    wrong = 0
    for name in sys.argv[2:]:
        document = json.loads(Path(name).read_text(encoding="utf-8"))
        for error in validator(schema, resolver=resolver, format_checker=formats).iter_errors(document):
            at = "/".join(str(part) for part in error.absolute_path) or "the document"
            print(f"{Path(name).name}: {at}: {error.message[:400]}")
            wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the projects that the benchmark of backends builds, the same at each call. Each is a folder with a Dockerfile; its steps
need no network and no program that a minimal Debian has not.

usage: projects.py BASE_IMAGE FOLDER

site      a folder of 800 small pages and some pictures, copied
report    two stages: 100 texts are made into pages, an index and an archive; the result is copied
service   an application: packed dependencies in one layer, two files of source in the next; variables, a user, a health check"""

import hashlib
import io
import os
import random
import sys
import tarfile

WORDS = ("a", "build", "copies", "each", "file", "from", "image", "into", "layer", "makes", "of", "one", "page", "reads", "step",
         "the", "then", "what", "with", "writes")

MAKE_REPORT = """\
set -eu
mkdir -p "$1/pages"
for part in parts/*.txt; do
    name=$(basename "$part" .txt)
    awk -v name="$name" 'BEGIN { print "<h1>" name "</h1>" } { gsub(/file/, "<b>&</b>"); print "<p>" $0 "</p>" }' "$part" \\
        >"$1/pages/$name.html"
done
cat parts/*.txt | tr -cs 'a-z' '\\n' | sort | uniq -c | sort -rn >"$1/words"
(cd "$1/pages" && sha256sum -- *) >"$1/sums"
tar -C "$1/pages" -cf - . | gzip -9 >"$1/pages.tar.gz"
"""

SITE = """\
FROM {base}
LABEL org.opencontainers.image.title=site
COPY www /srv/www
EXPOSE 8080
CMD ["/bin/sh", "-c", "ls /srv/www"]
"""

REPORT = """\
FROM {base} AS build
WORKDIR /src
COPY . .
RUN sh make-report /out
FROM {base}
COPY --from=build /out /opt/report
CMD ["cat", "/opt/report/words"]
"""

SERVICE = """\
FROM {base}
ENV LANG=C.UTF-8 SERVICE_PORT=8080
WORKDIR /srv/service
COPY dependencies.tar dependencies.list ./
RUN mkdir lib && tar -C lib -xf dependencies.tar && (cd lib && md5sum -c --quiet ../dependencies.list) && rm dependencies.tar
RUN useradd --system --no-create-home service
COPY main.pl Routes.pm ./
EXPOSE 8080
HEALTHCHECK --interval=30s CMD ["perl", "-c", "/srv/service/main.pl"]
USER service
CMD ["perl", "/srv/service/main.pl"]
"""


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)


def text(source, lines):
    return "".join(" ".join(source.choices(WORDS, k=12)) + "\n" for _ in range(lines))


def site(folder, base, source):
    write(folder + "/Dockerfile", SITE.format(base=base))
    write(folder + "/www/index.html", "<h1>first</h1>\n")
    for page in range(800):
        write(f"{folder}/www/{page % 40:02}/{page:04}.html", text(source, source.randrange(5, 40)))
    for picture in range(8):
        write(f"{folder}/www/pictures/{picture}.jpg", source.randbytes(150_000))


def report(folder, base, source):
    write(folder + "/Dockerfile", REPORT.format(base=base))
    write(folder + "/make-report", MAKE_REPORT)
    for part in range(100):
        write(f"{folder}/parts/{part:03}.txt", text(source, 250))


def service(folder, base, source):
    write(folder + "/Dockerfile", SERVICE.format(base=base))
    write(folder + "/main.pl", "use lib '/srv/service';\nuse Routes;\n")
    write(folder + "/Routes.pm", "package Routes;\n1;\n")
    sums = []
    with tarfile.open(folder + "/dependencies.tar", "w") as tar:
        for module in range(600):
            name, data = f"Part{module % 50:02}/M{module:04}.pm", text(source, source.randrange(10, 100)).encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
            sums.append(f"{hashlib.md5(data).hexdigest()}  {name}\n")
    write(folder + "/dependencies.list", "".join(sums))


def main():
    base, folder = sys.argv[1:]
    for make in (site, report, service):
        make(os.path.join(folder, make.__name__), base, random.Random(make.__name__))


if __name__ == "__main__":
    main()

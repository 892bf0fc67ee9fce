// SPDX-License-Identifier: Apache-2.0

// Command make-trivy-db makes a small vulnerability database in the format of Trivy, without a network: the facts
// of a JSON file, and what Debian's changelogs say about the versions in which CVEs were fixed. All rows are true;
// they are only very few.
package main

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/aquasecurity/trivy-db/pkg/db"
	"github.com/aquasecurity/trivy-db/pkg/metadata"
	"github.com/aquasecurity/trivy-db/pkg/types"
	bolt "go.etcd.io/bbolt"
)

type advisoryRow struct {
	Bucket        string          `json:"bucket"`
	Package       string          `json:"package"`
	Vulnerability string          `json:"vulnerability"`
	Advisory      json.RawMessage `json:"advisory"`
}

type facts struct {
	DataSources     map[string]types.DataSource    `json:"data_sources"`
	Advisories      []advisoryRow                  `json:"advisories"`
	Vulnerabilities map[string]types.Vulnerability `json:"vulnerabilities"`
	// Which numbers of products Red Hat's advisories mean by a repository.
	RedHatRepositories map[string][]int `json:"red_hat_repositories"`
}

// read is the row's advisory; Red Hat's have a form of their own, and are taken as they are.
func (row advisoryRow) read() (any, error) {
	if row.Bucket == "Red Hat" {
		return row.Advisory, nil
	}
	advisory := &types.Advisory{}
	if err := json.Unmarshal(row.Advisory, advisory); err != nil {
		return nil, fmt.Errorf("%s of %s: %w", row.Vulnerability, row.Package, err)
	}
	return advisory, nil
}

var (
	changelogHeader = regexp.MustCompile(`^([a-z0-9][a-z0-9+.-]*) \(([^)]+)\) [^;]+;`)
	cveNumber       = regexp.MustCompile(`CVE-[0-9]{4}-[0-9]{4,7}`)
)

// readChangelog adds source package -> CVE -> version. Newest entries come first, so the last mention, the oldest
// version, stays.
func readChangelog(path string, fixed map[string]map[string]string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	var text io.Reader = file
	if strings.HasSuffix(path, ".gz") {
		if text, err = gzip.NewReader(file); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	lines := bufio.NewScanner(text)
	lines.Buffer(nil, 1<<20)
	source, version := "", ""
	for lines.Scan() {
		line := lines.Text()
		if header := changelogHeader.FindStringSubmatch(line); header != nil {
			source, version = header[1], header[2]
			continue
		}
		if source == "" {
			continue
		}
		for _, cve := range cveNumber.FindAllString(line, -1) {
			if fixed[source] == nil {
				fixed[source] = map[string]string{}
			}
			fixed[source][cve] = version
		}
	}
	return lines.Err()
}

func write(out string, known facts, fixed map[string]map[string]string, debian string) error {
	if err := db.Init(out); err != nil {
		return err
	}
	defer db.Close()
	ops := db.Config{}
	return ops.BatchUpdate(func(tx *bolt.Tx) error {
		for source, cves := range fixed {
			for cve, version := range cves {
				row := &types.Advisory{FixedVersion: version}
				if err := ops.PutAdvisory(tx, []string{debian, source}, cve, row); err != nil {
					return err
				}
				if _, described := known.Vulnerabilities[cve]; described {
					continue
				}
				if err := ops.PutVulnerability(tx, cve, types.Vulnerability{Severity: "UNKNOWN"}); err != nil {
					return err
				}
			}
		}
		for _, row := range known.Advisories {
			if _, described := known.Vulnerabilities[row.Vulnerability]; !described {
				return fmt.Errorf("%s has an advisory but no description", row.Vulnerability)
			}
			if _, named := known.DataSources[row.Bucket]; !named {
				return fmt.Errorf("%s has advisories but no data source", row.Bucket)
			}
			advisory, err := row.read()
			if err != nil {
				return err
			}
			if err := ops.PutAdvisory(tx, []string{row.Bucket, row.Package}, row.Vulnerability, advisory); err != nil {
				return err
			}
		}
		for repository, products := range known.RedHatRepositories {
			if err := ops.PutRedHatRepositories(tx, repository, products); err != nil {
				return err
			}
		}
		for id, text := range known.Vulnerabilities {
			if err := ops.PutVulnerability(tx, id, text); err != nil {
				return err
			}
		}
		for bucket, source := range known.DataSources {
			if err := ops.PutDataSource(tx, bucket, source); err != nil {
				return err
			}
		}
		return nil
	})
}

func run() error {
	out := flag.String("out", "", "folder to write trivy.db and metadata.json to")
	factsFile := flag.String("facts", "", "JSON file of facts")
	changelogs := flag.String("changelogs", "", "folder such as /usr/share/doc, whose changelogs are read (optional)")
	debian := flag.String("debian", "debian 12", "bucket for what the changelogs say")
	updated := flag.String("updated-at", "", "age to claim, RFC 3339 (default: now)")
	flag.Parse()
	if *out == "" || *factsFile == "" || flag.NArg() != 0 {
		return errors.New("usage: make-trivy-db --out DIR --facts FILE [--changelogs DIR] [--updated-at TIME]")
	}
	when := time.Now().UTC().Truncate(time.Second)
	if *updated != "" {
		var err error
		if when, err = time.Parse(time.RFC3339, *updated); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(*factsFile)
	if err != nil {
		return err
	}
	var known facts
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&known); err != nil {
		return fmt.Errorf("%s: %w", *factsFile, err)
	}
	fixed := map[string]map[string]string{}
	if *changelogs != "" {
		for _, pattern := range []string{"*/changelog.Debian.gz", "*/changelog.gz"} {
			files, err := filepath.Glob(filepath.Join(*changelogs, pattern))
			if err != nil {
				return err
			}
			for _, file := range files {
				if err := readChangelog(file, fixed); err != nil {
					return err
				}
			}
		}
	}
	if err := write(*out, known, fixed, *debian); err != nil {
		return err
	}
	return metadata.NewClient(*out).Update(metadata.Metadata{
		Version: db.SchemaVersion, UpdatedAt: when, NextUpdate: when.Add(24 * time.Hour), DownloadedAt: when,
	})
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "make-trivy-db:", err)
		os.Exit(1)
	}
}

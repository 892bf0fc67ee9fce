// SPDX-License-Identifier: Apache-2.0

// Command make-grype-db makes a small vulnerability database in the format of Grype, without a network: what a DB of
// Trivy says about Debian and Alpine (packaging/tools/trivydb), and the facts of a JSON file. All rows are true; they
// are only very few.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "github.com/glebarez/sqlite"
	"github.com/spf13/afero"
	bolt "go.etcd.io/bbolt"

	v6 "github.com/anchore/grype/grype/db/v6"
)

type affected struct {
	Ecosystem  string `json:"ecosystem"`
	Package    string `json:"package"`
	Type       string `json:"type"`
	Constraint string `json:"constraint"`
	Fixed      string `json:"fixed"`
}

type record struct {
	ID          string    `json:"id"`
	Provider    string    `json:"provider"`
	Aliases     []string  `json:"aliases"`
	Severity    string    `json:"severity"`
	Description string    `json:"description"`
	Affects     *affected `json:"affects"`
	system      *v6.OperatingSystem
}

// The buckets of Trivy that are of a system, and what Grype calls its packages and versions.
var systems = map[string]struct{ id, ecosystem, versions string }{
	"debian": {"debian", "deb", "dpkg"},
	"alpine": {"alpine", "apk", "apk"},
}

func systemOf(bucket string) (*v6.OperatingSystem, string, string) {
	name, release, found := strings.Cut(bucket, " ")
	system, known := systems[name]
	if !found || !known {
		return nil, "", ""
	}
	major, minor, _ := strings.Cut(release, ".")
	return &v6.OperatingSystem{Name: name, ReleaseID: system.id, MajorVersion: major, MinorVersion: minor},
		system.ecosystem, system.versions
}

// readTrivy gives a record for each advisory that the DB of Trivy in DIR has of a system.
func readTrivy(dir string) ([]record, error) {
	file, err := bolt.Open(filepath.Join(dir, "trivy.db"), 0o400, &bolt.Options{ReadOnly: true, Timeout: 10 * time.Second})
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var records []record
	err = file.View(func(tx *bolt.Tx) error {
		details := tx.Bucket([]byte("vulnerability"))
		return tx.ForEach(func(name []byte, bucket *bolt.Bucket) error {
			system, ecosystem, versions := systemOf(string(name))
			if system == nil {
				return nil
			}
			return bucket.ForEachBucket(func(pkg []byte) error {
				return bucket.Bucket(pkg).ForEach(func(id, value []byte) error {
					var advisory struct{ FixedVersion string }
					if err := json.Unmarshal(value, &advisory); err != nil {
						return fmt.Errorf("%s of %s: %w", id, pkg, err)
					}
					var detail struct{ Title, Severity string }
					if text := details.Get(id); text != nil {
						if err := json.Unmarshal(text, &detail); err != nil {
							return fmt.Errorf("%s: %w", id, err)
						}
					}
					constraint := ""
					if advisory.FixedVersion != "" {
						constraint = "< " + advisory.FixedVersion
					}
					records = append(records, record{
						ID: string(id), Provider: system.Name, Severity: strings.ToLower(detail.Severity),
						Description: detail.Title, system: system,
						Affects: &affected{ecosystem, string(pkg), versions, constraint, advisory.FixedVersion},
					})
					return nil
				})
			})
		})
	})
	return records, err
}

func (r record) vulnerability(when time.Time) *v6.VulnerabilityHandle {
	blob := &v6.VulnerabilityBlob{ID: r.ID, Description: r.Description, Aliases: r.Aliases}
	if r.Severity != "" && r.Severity != "unknown" {
		blob.Severities = []v6.Severity{{Scheme: v6.SeveritySchemeCHMLN, Value: r.Severity}}
	}
	return &v6.VulnerabilityHandle{
		Name: r.ID, Status: v6.VulnerabilityActive, PublishedDate: &when, ProviderID: r.Provider,
		Provider:  &v6.Provider{ID: r.Provider, Version: "1", Processor: "make-grype-db", DateCaptured: &when},
		BlobValue: blob,
	}
}

func (r record) affectedPackage(vulnerability *v6.VulnerabilityHandle) *v6.AffectedPackageHandle {
	fix := &v6.Fix{State: v6.NotFixedStatus}
	if r.Affects.Fixed != "" {
		fix = &v6.Fix{Version: r.Affects.Fixed, State: v6.FixedStatus}
	}
	return &v6.AffectedPackageHandle{
		Vulnerability: vulnerability, OperatingSystem: r.system,
		Package: &v6.Package{Ecosystem: r.Affects.Ecosystem, Name: r.Affects.Package},
		BlobValue: &v6.PackageBlob{
			CVEs:   r.Aliases,
			Ranges: []v6.Range{{Version: v6.Version{Type: r.Affects.Type, Constraint: r.Affects.Constraint}, Fix: fix}},
		},
	}
}

func write(dir string, records []record, when time.Time) error {
	writer, err := v6.NewWriter(v6.Config{DBDirPath: dir, CacheSizeKiB: 8192})
	if err != nil {
		return err
	}
	var vulnerabilities []*v6.VulnerabilityHandle
	var packages []*v6.AffectedPackageHandle
	for _, one := range records {
		vulnerability := one.vulnerability(when)
		vulnerabilities = append(vulnerabilities, vulnerability)
		if one.Affects != nil {
			packages = append(packages, one.affectedPackage(vulnerability))
		}
	}
	if err := writer.AddVulnerabilities(vulnerabilities...); err != nil {
		return err
	}
	if err := writer.AddAffectedPackages(packages...); err != nil {
		return err
	}
	return writer.Close()
}

// finish makes the indexes, as importing a DB does, and sets the time at which the DB claims to have been built.
func finish(dir string, when time.Time) error {
	if err := v6.Hydrater()(dir); err != nil {
		return err
	}
	file, err := v6.NewLowLevelDB(filepath.Join(dir, v6.VulnerabilityDBFileName), false, true, false)
	if err != nil {
		return err
	}
	if err := file.Exec("UPDATE db_metadata SET build_timestamp = ?", when).Error; err != nil {
		return err
	}
	pool, err := file.DB()
	if err != nil {
		return err
	}
	if err := pool.Close(); err != nil {
		return err
	}
	_, err = v6.WriteImportMetadata(afero.NewOsFs(), dir, "make-grype-db")
	return err
}

func readFacts(name string) ([]record, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var facts struct {
		Records []record `json:"records"`
	}
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&facts); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return facts.Records, nil
}

func run() error {
	out := flag.String("out", "", "folder to write 6/vulnerability.db and 6/import.json to")
	facts := flag.String("facts", "", "JSON file of facts")
	trivy := flag.String("trivy-db", "", "folder with a trivy.db whose advisories of systems are taken over")
	built := flag.String("built-at", "", "age to claim, RFC 3339 (default: now)")
	flag.Parse()
	if *out == "" || *facts == "" || *trivy == "" || flag.NArg() != 0 {
		return errors.New("usage: make-grype-db --out DIR --facts FILE --trivy-db DIR [--built-at TIME]")
	}
	when := time.Now().UTC().Truncate(time.Second)
	if *built != "" {
		var err error
		if when, err = time.Parse(time.RFC3339, *built); err != nil {
			return err
		}
	}
	records, err := readTrivy(*trivy)
	if err != nil {
		return err
	}
	more, err := readFacts(*facts)
	if err != nil {
		return err
	}
	dir := filepath.Join(*out, fmt.Sprint(v6.ModelVersion))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := write(dir, append(records, more...), when); err != nil {
		return err
	}
	return finish(dir, when)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "make-grype-db:", err)
		os.Exit(1)
	}
}

module slipway.test/tools/schemas

go 1.26.0

require (
	github.com/CycloneDX/cyclonedx-go v0.12.0
	github.com/anchore/grype v0.121.3
	github.com/anchore/syft v1.57.1
)

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// What an image is made of, by the OCI image specification 1.0: config.md,
// layer.md, manifest.md and image-index.md, each as far as it is used.
type (
	imageConfig struct {
		Created      time.Time   `json:"created"`
		Architecture string      `json:"architecture"`
		OS           string      `json:"os"`
		Config       runConfig   `json:"config"`
		RootFS       rootFS      `json:"rootfs"`
		History      []operation `json:"history"`
	}
	runConfig struct {
		User       string
		Env        []string
		Entrypoint []string
		WorkingDir string
		Labels     map[string]string
	}
	rootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"` // of the layers uncompressed
	}
	operation struct {
		Created   time.Time `json:"created"`
		CreatedBy string    `json:"created_by"`
	}
	manifest struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Config        descriptor   `json:"config"`
		Layers        []descriptor `json:"layers"`
	}
	index struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Manifests     []descriptor `json:"manifests"`
	}
	descriptor struct {
		MediaType   string            `json:"mediaType"`
		Digest      string            `json:"digest"`
		Size        int               `json:"size"`
		Annotations map[string]string `json:"annotations,omitempty"`
		Platform    *platform         `json:"platform,omitempty"`
	}
	platform struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
	}
)

// dockerImage is an entry of manifest.json, which docker load reads (moby:
// image/spec/v1.2.md).
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// An image is its three blobs and what the archive's top says of them.
type image struct {
	version, arch           string
	created                 time.Time
	layer, config, manifest []byte
}

// newImage makes the image the Dockerfile describes, of a binary built before.
func newImage(binary []byte, version, arch string, created time.Time) *image {
	layer := tarball(created, []entry{
		{"usr/", 0o755, nil},
		{"usr/local/", 0o755, nil},
		{"usr/local/bin/", 0o755, nil},
		{"usr/local/bin/healthcheck", 0o755, binary},
	})
	img := &image{version: version, arch: arch, created: created, layer: compress(layer)}
	img.config = encode(imageConfig{
		Created:      created,
		Architecture: arch,
		OS:           "linux",
		Config: runConfig{
			User:       "65532:65532",
			Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, // both builders set it
			Entrypoint: []string{"/usr/local/bin/healthcheck"},
			WorkingDir: "/", // as BuildKit sets it
			Labels: map[string]string{
				"org.opencontainers.image.title":       "healthcheck",
				"org.opencontainers.image.description": "Docker health probe, container init and Prometheus exporter in one static binary",
				"org.opencontainers.image.version":     version,
				"org.opencontainers.image.source":      "https://github.com/locotoki/alfred-agent-platform-v2",
			},
		},
		RootFS:  rootFS{"layers", []string{digest(layer)}},
		History: []operation{{created, "tools/image"}},
	})
	img.manifest = encode(manifest{
		SchemaVersion: 2,
		MediaType:     "application/vnd.oci.image.manifest.v1+json",
		Config:        describe("application/vnd.oci.image.config.v1+json", img.config),
		Layers:        []descriptor{describe("application/vnd.oci.image.layer.v1.tar+gzip", img.layer)},
	})
	return img
}

// name is what docker load calls the image.
func (img *image) name() string { return "alfred/healthcheck:" + img.version }

// writeArchive writes the archive. It is laid out as docker save of Docker 25 and
// later does it: an OCI image layout (image-layout.md), to whose blobs docker's own
// manifest.json points, too.
//
//	blobs/sha256/…   the layer, the config, the manifest
//	index.json       the OCI index: the manifest, with the image's name
//	manifest.json    the same for docker load and docker-archive:
//	oci-layout
func (img *image) writeArchive(w io.Writer) error {
	top := describe("application/vnd.oci.image.manifest.v1+json", img.manifest)
	top.Platform = &platform{img.arch, "linux"}
	top.Annotations = map[string]string{
		"io.containerd.image.name":          "docker.io/" + img.name(),
		"org.opencontainers.image.ref.name": img.version,
	}
	files := map[string][]byte{
		"index.json": encode(index{2, "application/vnd.oci.image.index.v1+json", []descriptor{top}}),
		"manifest.json": encode([]dockerImage{
			{Config: blobPath(img.config), RepoTags: []string{img.name()}, Layers: []string{blobPath(img.layer)}},
		}),
		"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`),
	}
	for _, blob := range [][]byte{img.layer, img.config, img.manifest} {
		files[blobPath(blob)] = blob
	}
	entries := []entry{{"blobs/", 0o755, nil}, {"blobs/sha256/", 0o755, nil}}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		entries = append(entries, entry{name, 0o644, files[name]})
	}
	archive := tarball(img.created, entries)
	for _, member := range [][]byte{archive[:peeked], archive[peeked:]} {
		if _, err := w.Write(compress(member)); err != nil {
			return err
		}
	}
	return nil
}

// peeked is how many bytes skopeo and podman read to see whether an archive is
// compressed. Those of Debian 12 and Ubuntu 22.04 then lose the rest of the first
// block they had decompressed (klauspost/pgzip pull request 50), so that docker save
// and gzip make what they cannot read as docker-archive. A block ends where a member
// of the gzip file does (RFC 1952, section 2.2): with a member of these bytes alone
// nothing is lost.
const peeked = 8

// An entry is a file of a tarball, or with a slash at its name's end a folder.
type entry struct {
	name    string
	mode    int64
	content []byte
}

// tarball returns a ustar archive of entries, all root's and of one time.
func tarball(modified time.Time, entries []entry) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		header := &tar.Header{
			Format:   tar.FormatUSTAR,
			Typeflag: tar.TypeReg,
			Name:     e.name,
			Mode:     e.mode,
			Size:     int64(len(e.content)),
			ModTime:  modified,
		}
		if e.name[len(e.name)-1] == '/' {
			header.Typeflag = tar.TypeDir
		}
		must(w.WriteHeader(header))
		_, err := w.Write(e.content)
		must(err)
	}
	must(w.Close())
	return b.Bytes()
}

// compress returns content as a member of a gzip file, without name and time.
func compress(content []byte) []byte {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	must(err)
	_, err = w.Write(content)
	must(err)
	must(w.Close())
	return b.Bytes()
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	must(err)
	return b
}

// must panics for what cannot fail: writing to memory, names and values of ours.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func describe(mediaType string, blob []byte) descriptor {
	return descriptor{MediaType: mediaType, Digest: digest(blob), Size: len(blob)}
}

func digest(blob []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(blob)) }

func blobPath(blob []byte) string { return fmt.Sprintf("blobs/sha256/%x", sha256.Sum256(blob)) }

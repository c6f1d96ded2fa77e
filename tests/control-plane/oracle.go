package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"

	"github.com/distribution/reference"
	v1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/credentialprovider"
	"k8s.io/kubernetes/pkg/credentialprovider/secrets"
	"k8s.io/kubernetes/pkg/util/parsers"
)

// question is one line of input; what an operation does not need is empty.
type question struct {
	Op      string `json:"op"`
	Image   string `json:"image"`
	Pattern string `json:"pattern"`
	Secrets []struct {
		Name string `json:"name"`
		Type string `json:"type"`
		Data string `json:"data"`
	} `json:"secrets"`
}

// answerLines answers each JSON line by what the kubelet's own packages make of it.
func answerLines(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 64<<20)
	buffered := bufio.NewWriter(out)
	encoder := json.NewEncoder(buffered)
	for lines.Scan() {
		var asked question
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			return err
		}
		answer, err := asked.answer()
		if err != nil {
			answer = map[string]any{"ok": false, "error": err.Error()}
		}
		if err := encoder.Encode(answer); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return buffered.Flush()
}

func (q question) answer() (map[string]any, error) {
	switch q.Op {
	case "parse":
		named, err := reference.ParseNormalizedNamed(q.Image)
		if err != nil {
			return nil, err
		}
		_, tag, digest, err := parsers.ParseImageName(q.Image)
		if err != nil {
			return nil, err
		}
		return map[string]any{
			"ok": true, "registry": reference.Domain(named), "repository": reference.Path(named), "tag": tag, "digest": digest,
		}, nil
	case "match":
		matched, err := credentialprovider.URLsMatchStr(q.Pattern, q.Image)
		if err != nil {
			return nil, err
		}
		return map[string]any{"ok": true, "matched": matched}, nil
	case "lookup":
		return q.lookup()
	default:
		return nil, fmt.Errorf("unknown op %q", q.Op)
	}
}

// lookup goes the way of the kubelet's image manager: the image's name without tag and digest, in a keyring of the Secrets.
func (q question) lookup() (map[string]any, error) {
	var listed []v1.Secret
	for _, secret := range q.Secrets {
		key := v1.DockerConfigJsonKey
		if secret.Type == string(v1.SecretTypeDockercfg) {
			key = v1.DockerConfigKey
		}
		made := v1.Secret{Type: v1.SecretType(secret.Type), Data: map[string][]byte{key: []byte(secret.Data)}}
		made.Name = secret.Name
		listed = append(listed, made)
	}
	keyring, err := secrets.MakeDockerKeyring(listed, &credentialprovider.BasicDockerKeyring{})
	if err != nil {
		return nil, err
	}
	name, _, _, err := parsers.ParseImageName(q.Image)
	if err != nil {
		return nil, err
	}
	found, _ := keyring.Lookup(name)
	credentials := []map[string]string{}
	for _, one := range found {
		credentials = append(credentials, map[string]string{"username": one.Username, "password": one.Password})
	}
	return map[string]any{"ok": true, "credentials": credentials}, nil
}

package main

import (
	"errors"
	"io"

	_ "github.com/distribution/reference"
	_ "k8s.io/api/core/v1"
	_ "k8s.io/kubernetes/pkg/credentialprovider"
	_ "k8s.io/kubernetes/pkg/credentialprovider/secrets"
)

func answerLines(_ io.Reader, _ io.Writer) error { return errors.New("not written yet") }

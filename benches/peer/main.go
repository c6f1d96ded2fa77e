// The usual way to write this webhook, to compare with: controller-runtime decodes the review and the Pod into its types,
// the Pod is changed, and the patch is computed from the difference of what it was and what it is.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager/signals"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// injector adds a Secret's name to Pods with an image below a prefix.
type injector struct {
	decoder admission.Decoder
	image   string
	secret  string
}

func (i *injector) Handle(_ context.Context, request admission.Request) admission.Response {
	var pod corev1.Pod
	if err := i.decoder.Decode(request, &pod); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	if !i.covers(&pod.Spec) {
		return admission.Allowed("")
	}
	for _, secret := range pod.Spec.ImagePullSecrets {
		if secret.Name == i.secret {
			return admission.Allowed("")
		}
	}
	pod.Spec.ImagePullSecrets = append(pod.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: i.secret})
	changed, err := json.Marshal(&pod)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	return admission.PatchResponseFromRaw(request.Object.Raw, changed)
}

func (i *injector) covers(spec *corev1.PodSpec) bool {
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for _, container := range containers {
			if strings.HasPrefix(container.Image, i.image+"/") {
				return true
			}
		}
	}
	return false
}

func main() {
	port := flag.Int("port", 0, "port of 127.0.0.1")
	certificates := flag.String("certificates", "", "folder with tls.crt and tls.key")
	image := flag.String("image", "", "images below this get the Secret")
	secret := flag.String("secret", "", "name of the Secret")
	flag.Parse()
	log.SetLogger(zap.New())

	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	server := webhook.NewServer(webhook.Options{Host: "127.0.0.1", Port: *port, CertDir: *certificates})
	handler := &injector{decoder: admission.NewDecoder(scheme), image: *image, secret: *secret}
	server.Register("/mutate", &webhook.Admission{Handler: handler})
	if err := server.Start(signals.SetupSignalHandler()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

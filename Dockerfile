# The image holds one static program and nothing else: no shell, no loader, no certificates (the roots are in the program).
#
#   docker build --tag pullcred .
#   docker buildx build --platform linux/amd64,linux/arm64 --tag pullcred .
#
# Each platform is built by its own toolchain, for `ring` and `mimalloc` compile C. Where the builder is another, that is emulated and
# slow; .github/workflows/release.yml builds each on a machine of its kind and joins the two.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src ./src
# The folders of cargo are caches of the builder and no layers: a changed line of code compiles that crate alone.
# A target triple keeps `crt-static` away from procedural macros, which are libraries that the compiler loads.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    triple="$(rustc --print host-tuple)" \
    && RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --release --bin pullcred --target "$triple" \
    && cp "target/$triple/release/pullcred" /pullcred

FROM scratch
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.title="pullcred" \
      org.opencontainers.image.description="Every Pod gets the pull credentials its images need, and only those" \
      org.opencontainers.image.source="https://github.com/pullcred/pullcred" \
      org.opencontainers.image.documentation="https://github.com/pullcred/pullcred/blob/main/docs/README.md" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /pullcred /pullcred
# A number, so that `runAsNonRoot` can be judged without a user database.
USER 65532:65532
# HTTPS for the API server, and plain HTTP for probes and metrics.
EXPOSE 10250 8080
ENTRYPOINT ["/pullcred"]

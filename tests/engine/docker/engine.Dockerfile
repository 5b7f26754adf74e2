# An engine in a container, as CI services have it.
ARG BASE
FROM ${BASE}
RUN apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends \
    docker.io docker-cli docker-buildx iptables jq >/dev/null
COPY --chmod=755 engine.sh /
ENTRYPOINT ["/engine.sh"]

FROM busybox AS seed
WORKDIR /seed
FROM busybox
WORKDIR /work
USER app
RUN --mount=type=cache,target=.cache,sharing=locked,from=seed,source=/seed,uid=1000 \
    --mount=target=.,rw \
    --mount=from=alpine,source=/etc,target=/etc2 \
    --mount=type=tmpfs,target=/t,size=1m \
    --mount=type=secret,id=token,env=TOKEN \
    --mount=type=secret,target=/run/key,required \
    --mount=type=ssh \
    make all
RUN <<SCRIPT
#!/bin/awk -f
BEGIN { print "hello" }
SCRIPT

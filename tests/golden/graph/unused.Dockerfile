FROM busybox AS broken
RUN exit 1
FROM busybox AS base
ONBUILD COPY app.txt /app.txt
ONBUILD RUN echo "$WHO"
RUN echo base
FROM base AS child
COPY --from=outside . /out
COPY <<one <<two /files/
$HOME
one
2
two
FROM broken

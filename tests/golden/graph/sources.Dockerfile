FROM scratch
ADD --checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d https://example.org/a/file.tar.gz?x=1 /pack/
ADD --keep-git-dir https://example.org/project.git#main /src
ADD --chown=1:2 --chmod=0600 app.tar.gz /
COPY --link --parents --exclude=*.md ./docs/./a /d/

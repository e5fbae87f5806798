# gramma serve, with the embedded model and compiled kernels in the image: docs/docker.md
FROM python:3.11-slim

# pip's own variables, for package indexes of your own; torch's for its build for CPUs
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG TORCH_INDEX_URL
ARG EXTRAS=serve

RUN useradd --create-home --uid 10001 gramma
ENV GRAMMA_CACHE=/home/gramma/cache \
    NUMBA_CACHE_DIR=/home/gramma/kernels \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1

WORKDIR /src
COPY constraints.txt ./
RUN if [ -n "$TORCH_INDEX_URL" ]; then pip install -c constraints.txt torch --index-url "$TORCH_INDEX_URL"; fi
COPY pyproject.toml MANIFEST.in README.md LICENSE ./
COPY grammars grammars
COPY constrain constrain
COPY samplers samplers
COPY gramma gramma
RUN pip install -c constraints.txt ".[$EXTRAS]"

# As the user who runs it: fetches the model (pinned by its checksum) and compiles the kernels, once
USER gramma
WORKDIR /home/gramma
COPY --chown=gramma examples/invoice.schema.json examples/invoice.txt warm/
RUN gramma extract --schema warm/invoice.schema.json warm/invoice.txt --grounded --max-new-tokens 200

EXPOSE 8000
HEALTHCHECK --start-period=60s --interval=30s --timeout=5s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["gramma"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]

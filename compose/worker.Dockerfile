# The train and the housekeeping worker; `--build-arg DEVICE=gpu` brings the CUDA libraries as wheels.
FROM python:3.12-slim

ARG DEVICE=cpu
COPY requirements/server-${DEVICE}.txt /requirements.txt
# pip compiles what it installs: without .pyc files `import tensorflow` takes three times as long.
RUN python -m pip install --no-cache-dir --disable-pip-version-check --root-user-action ignore \
    --require-hashes --only-binary :all: --requirement /requirements.txt

# A volume that is mounted on a folder for the first time takes the folder's owner.
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin trainshed \
    && install --directory --owner trainshed --group trainshed --mode 0700 /var/lib/trainshed

WORKDIR /app
COPY services services
COPY worker worker
RUN chmod -R a+rX . && python -m compileall -q .

# The container's root is read-only: what libraries want to keep goes to /tmp.
ENV HOME=/tmp KERAS_HOME=/tmp/keras MPLCONFIGDIR=/tmp/matplotlib PYTHONUNBUFFERED=1
USER 10001:10001
CMD ["python", "-m", "worker", "train"]

# The API, the migrations and the command that makes keys. No TensorFlow, no MLflow.
FROM python:3.12-slim

COPY requirements/api.txt /requirements.txt
RUN python -m pip install --no-cache-dir --disable-pip-version-check --root-user-action ignore \
    --require-hashes --only-binary :all: --requirement /requirements.txt

# A volume that is mounted on a folder for the first time takes the folder's owner.
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin trainshed \
    && install --directory --owner trainshed --group trainshed --mode 0700 \
    /var/lib/trainshed /var/lib/trainshed-key

WORKDIR /app
COPY services services
COPY migrations migrations
COPY api api
RUN chmod -R a+rX . && python -m compileall -q .

# The container's root is read-only: what libraries want to keep goes to /tmp.
ENV HOME=/tmp PYTHONUNBUFFERED=1 MALLOC_ARENA_MAX=2
USER 10001:10001
CMD ["python", "-m", "api", "--host", "0.0.0.0", "--port", "8080"]

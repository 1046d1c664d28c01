# MLflow's tracking server and UI.
FROM python:3.12-slim

COPY requirements/mlflow.txt /requirements.txt
RUN python -m pip install --no-cache-dir --disable-pip-version-check --root-user-action ignore \
    --require-hashes --only-binary :all: --requirement /requirements.txt

# A volume that is mounted on a folder for the first time takes the folder's owner.
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin trainshed \
    && install --directory --owner trainshed --group trainshed --mode 0700 /var/lib/mlflow

COPY --chmod=755 compose/mlflow.sh /usr/local/bin/trainshed-mlflow

WORKDIR /tmp
# MLflow looks for git when it is imported, and warns at length where there is none.
ENV HOME=/tmp PYTHONUNBUFFERED=1 GIT_PYTHON_REFRESH=quiet
USER 10001:10001
CMD ["trainshed-mlflow"]

# The commands, in a container. It has not been built or run by us: no container engine was at hand.
#
#   docker build -t milforge .                                    # CPU
#   docker build -t milforge --build-arg DEVICE=cuda .            # NVIDIA GPU; the driver is the host's
#   mkdir -p logs   # else docker makes it, and it belongs to root
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD/logs:/work/logs" -v FOLDER:/data:ro milforge \
#       milforge-train data=feature_bags data.root=/data data.labels=/data/labels.csv
#   docker run --rm --gpus all --shm-size 8g ... milforge milforge-train trainer=gpu ...
FROM python:3.12-slim

ARG DEVICE=cpu
# USER is for whoever runs it under a number that the container has no name for.
ENV PYTHONUNBUFFERED=1 OMP_WAIT_POLICY=passive PIP_NO_CACHE_DIR=1 USER=researcher
RUN apt-get update && apt-get install --yes --no-install-recommends git && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/milforge
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY configs configs
COPY src src
# The constraints pin torch without its build: with cuda the wheels that bring CUDA are taken, with cpu
# those of the index that PYTORCH_INDEX names, where one is given.
ARG PYTORCH_INDEX=
RUN if [ "$DEVICE" = cpu ] && [ -n "$PYTORCH_INDEX" ]; then \
        pip install torch -c constraints.txt --index-url "$PYTORCH_INDEX"; \
    fi && \
    pip install ".[tensorboard,slides,joblib,optuna]" -c constraints.txt

RUN useradd --create-home --uid 1000 researcher && mkdir /work && chown researcher /work
# By its number: Kubernetes cannot tell by a name that it is not root.
USER 1000
WORKDIR /work
CMD ["milforge-train", "--help"]

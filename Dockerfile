# One image for the API and the workers. For a GPU worker build with --build-arg EXTRAS=cuda on a
# CUDA development base that carries Python 3.11 or later: mamba-ssm and causal-conv1d compile there.
ARG BASE=python:3.11-slim
FROM ${BASE}

ARG EXTRAS=
ARG PIP_EXTRA_INDEX_URL=
WORKDIR /opt/mambascope
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY schemas schemas
COPY catalogue catalogue
COPY jobs jobs
COPY service service
COPY workers workers
COPY mambascope mambascope
RUN pip install --no-cache-dir --constraint constraints.txt ".${EXTRAS:+[$EXTRAS]}" \
    && useradd --create-home mambascope \
    && install -d -o mambascope /data /var/cache/mambascope

USER mambascope
ENV MAMBASCOPE_DATA_DIR=/data \
    NUMBA_CACHE_DIR=/var/cache/mambascope/numba \
    MPLCONFIGDIR=/var/cache/mambascope/matplotlib
# Compiled kernels and the font list, so that the first start is as quick as the next.
RUN python -c "from workers.kernels.warm import warm_up; import workers.figures; warm_up()"
VOLUME /data
EXPOSE 8090
ENTRYPOINT ["mambascope"]
CMD ["up", "--host", "0.0.0.0", "--allow-remote", "--verbose"]

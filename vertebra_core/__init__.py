"""The science of Vertebra: from a CT volume to six keypoints, three heights and a Genant index per vertebra.

Pure functions and frozen values: no Prefect, no Dask, no cluster and no clock.
Start reading at :mod:`vertebra_core.study`, the whole method on one page.
"""

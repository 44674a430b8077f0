# SPDX-License-Identifier: Apache-2.0
"""Where the vertices of FreeSurfer's average surfaces lie on the coarsest of them that maps are drawn on, fsaverage5.

The surfaces are subdivided icosahedra: the first 10,242 vertices of a hemisphere of fsaverage6 or fsaverage are those of
fsaverage5, in its order (Fischl et al. 1999). The others lie between them and are not drawn.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError

SurfaceName = Literal["fsaverage5", "fsaverage6", "fsaverage"]
SHARED: SurfaceName = "fsaverage5"
# vertices of one hemisphere
N_VERTICES: dict[SurfaceName, int] = {"fsaverage5": 10_242, "fsaverage6": 40_962, "fsaverage": 163_842}
NOWHERE = -1


def surface_of(n_voxels: int) -> SurfaceName | None:
    """The surface that has this many vertices on both hemispheres, None when there is none."""
    return next((name for name, own in N_VERTICES.items() if n_voxels == 2 * own), None)


def vertices(surface: SurfaceName, n_voxels: int) -> NDArray[np.int32]:
    """(n_voxels,) number of each vertex on fsaverage5, left hemisphere first, -1 for what lies between its vertices.

    Parameters
    ----------
    n_voxels : vertices of both hemispheres of ``surface``, left then right.

    Raises
    ------
    DataError
        for another number of vertices than the surface has.
    """
    own, shared = N_VERTICES[surface], N_VERTICES[SHARED]
    if n_voxels != 2 * own:
        raise DataError(
            f"{n_voxels:,} vertices, {surface} has {2 * own:,} on both hemispheres",
            f"name the surface of the responses: {', '.join(N_VERTICES)}; left hemisphere first",
        )
    places = np.full((2, own), NOWHERE, dtype=np.int32)
    places[:, :shared] = np.arange(2 * shared).reshape(2, shared)
    return places.ravel()

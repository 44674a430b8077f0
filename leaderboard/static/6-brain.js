function startBrains() {}

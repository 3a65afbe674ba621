"""Cases for every implementation of the guard language, as JSON data (`guards.json`)."""

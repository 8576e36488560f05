"""Photo geolocation: classification of cells (PlaNet), or retrieval of similar photos (Im2GPS)."""

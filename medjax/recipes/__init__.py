"""From a config's plain values to the stages of a run: here all parts are joined."""

"""The catalogue of a server: what it says, how it is signed, which bytes a client needs, and the folder that holds it."""

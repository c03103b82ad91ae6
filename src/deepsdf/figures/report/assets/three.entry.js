// What the page uses of three.js. three.min.js is made of this file, and of nothing else:
//   npm install three@0.187.0 esbuild@0.28.2
//   { echo '/*! three.js 0.187.0'; cat node_modules/three/LICENSE; echo '*/'
//     npx esbuild three.entry.js --bundle --minify --format=iife --global-name=THREE --legal-comments=none
//   } > three.min.js
export {
    BufferAttribute, BufferGeometry, DirectionalLight, DoubleSide, Group, HemisphereLight, Mesh, MeshStandardMaterial,
    PerspectiveCamera, Points, PointsMaterial, Raycaster, Scene, Spherical, Vector2, Vector3, WebGLRenderer,
} from "three";
export { OrbitControls } from "three/addons/controls/OrbitControls.js";
export { toCreasedNormals } from "three/addons/utils/BufferGeometryUtils.js";
